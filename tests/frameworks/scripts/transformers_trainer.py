# SPDX-License-Identifier: Apache-2.0
"""The Trainer of transformers with its own bar and its own lines."""

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

set_seed(5)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
model = BertForSequenceClassification(BertConfig(vocab_size=40, max_position_embeddings=8, **sizes))
data = [{"input_ids": [1, 2 + i % 30, 3], "attention_mask": [1, 1, 1], "labels": i % 2} for i in range(64)]
arguments = TrainingArguments("out", num_train_epochs=4, learning_rate=0.01, logging_steps=4, report_to="none")
print(arguments)
trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:16])
trainer.train()
trainer.evaluate()
