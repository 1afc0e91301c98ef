# SPDX-License-Identifier: Apache-2.0
"""Gradient boosting of scikit-learn with its table, and a mean squared error at the end."""

from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.1, random_state=8)
parameters = {"n_estimators": 40, "max_depth": 3, "learning_rate": 0.05}
print(parameters)
model = GradientBoostingRegressor(**parameters, verbose=1).fit(x_train, y_train)
mse = mean_squared_error(y_test, model.predict(x_test))
print(f"The mean squared error (MSE) on test set: {mse:.4f}")
