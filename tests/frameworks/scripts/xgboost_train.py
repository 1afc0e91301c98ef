# SPDX-License-Identifier: Apache-2.0
"""Rounds of XGBoost as it prints them."""

import xgboost as xgb
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=9)
parameters = {"max_depth": 2, "eta": 0.3, "objective": "binary:logistic", "eval_metric": ["logloss", "auc"]}
train, test = xgb.DMatrix(x_train, y_train), xgb.DMatrix(x_test, y_test)
booster = xgb.train(parameters, train, 15, evals=[(train, "train"), (test, "eval")])
right = ((booster.predict(test) > 0.5) == y_test).mean()
print(f"Accuracy: {100 * right:.2f}%")
