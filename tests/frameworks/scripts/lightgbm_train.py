# SPDX-License-Identifier: Apache-2.0
"""Rounds of LightGBM as it prints them."""

import lightgbm as lgb
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=10)
train = lgb.Dataset(x_train, y_train)
parameters = {"objective": "binary", "metric": ["binary_logloss", "auc"], "num_leaves": 7, "learning_rate": 0.1}
print("Starting training...")
lgb.train(
    parameters,
    train,
    num_boost_round=15,
    valid_sets=[train, lgb.Dataset(x_test, y_test, reference=train)],
    callbacks=[lgb.log_evaluation()],
)
print("Saving model...")
