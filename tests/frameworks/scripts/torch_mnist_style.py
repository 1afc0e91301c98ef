# SPDX-License-Identifier: Apache-2.0
"""A small classifier with the loop and the lines of PyTorch's first example."""

import torch
from torch.nn.functional import nll_loss
from torch.utils.data import DataLoader, TensorDataset


def train(model, loader, optimizer, epoch):
    model.train()
    for index, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        loss = nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        if index % 5 == 0:
            seen, part = index * len(data), 100.0 * index / len(loader)
            print(f"Train Epoch: {epoch} [{seen}/{len(loader.dataset)} ({part:.0f}%)]\tLoss: {loss.item():.6f}")


def test(model, data, target):
    model.eval()
    with torch.no_grad():
        output = model(data)
    loss = nll_loss(output, target).item()
    right = (output.argmax(1) == target).sum().item()
    share = 100.0 * right / len(target)
    print(f"\nTest set: Average loss: {loss:.4f}, Accuracy: {right}/{len(target)} ({share:.0f}%)\n")


torch.manual_seed(1)
x = torch.randn(400, 8)
y = (x[:, 0] + x[:, 1] > 0).long()
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2), torch.nn.LogSoftmax(dim=1))
adam = torch.optim.Adam(net.parameters(), lr=0.01)
batches = DataLoader(TensorDataset(x[:320], y[:320]), batch_size=32, shuffle=True)
for number in range(1, 5):
    train(net, batches, adam, number)
    test(net, x[320:], y[320:])
