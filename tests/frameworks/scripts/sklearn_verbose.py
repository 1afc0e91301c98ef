# SPDX-License-Identifier: Apache-2.0
"""A network of scikit-learn that says what it does."""

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=7)
network = MLPClassifier((32,), max_iter=12, random_state=7, verbose=True).fit(x_train, y_train)
print(classification_report(y_test, network.predict(x_test)))
print("Test accuracy:", network.score(x_test, y_test))
