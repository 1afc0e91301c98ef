# SPDX-License-Identifier: Apache-2.0
"""A training with the lines of PyTorch's quick start."""

import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
device = "cuda" if torch.cuda.is_available() else "cpu"
print(f"Using {device} device")
x = torch.randn(640, 4)
y = (x.sum(1) > 0).long()
model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)).to(device)
print(model)
loss_fn = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(x[:512], y[:512]), batch_size=32)
epochs = 3
for t in range(epochs):
    print(f"Epoch {t + 1}\n-------------------------------")
    for batch, (X, Y) in enumerate(loader):
        loss = loss_fn(model(X), Y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 4 == 0:
            current = (batch + 1) * len(X)
            print(f"loss: {loss.item():>7f}  [{current:>5d}/{len(loader.dataset):>5d}]")
    with torch.no_grad():
        found = model(x[512:])
        share = (found.argmax(1) == y[512:]).float().mean().item()
        print(f"Test Error: \n Accuracy: {100 * share:>0.1f}%, Avg loss: {loss_fn(found, y[512:]).item():>8f} \n")
print("Done!")
