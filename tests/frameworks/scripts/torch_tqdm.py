# SPDX-License-Identifier: Apache-2.0
"""A regression whose only words are those of a progress bar."""

import torch
from tqdm import tqdm

torch.manual_seed(3)
x = torch.randn(256, 3)
y = x @ torch.tensor([[1.0], [2.0], [3.0]])
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(4):
    with tqdm(x.split(32), desc=f"Epoch {epoch + 1}/4") as bar:
        for number, part in enumerate(bar):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(part), y[32 * number : 32 * number + 32])
            loss.backward()
            optimizer.step()
            bar.set_postfix(loss=loss.item())
