# SPDX-License-Identifier: Apache-2.0
"""A loop of one's own around a model of transformers, with a logger."""

import logging

import torch
from transformers import GPT2Config, GPT2LMHeadModel

logging.basicConfig(format="%(asctime)s - %(levelname)s - %(name)s - %(message)s", level=logging.INFO)
logger = logging.getLogger(__name__)
torch.manual_seed(6)
model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=16, n_embd=16, n_layer=1, n_head=2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
tokens = torch.arange(12).repeat(8, 1)
logger.info("***** Running training *****")
logger.info("  Num examples = %d", len(tokens))
logger.info("  Num Epochs = 5")
logger.info("  Total train batch size = 8")
for epoch in range(5):
    for _ in range(4):
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    logger.info("epoch %d: perplexity: %.4f eval_loss: %.4f", epoch, loss.exp().item(), loss.item())
