"""Trains the network of ../digits_data.py and writes that file. Needs scikit-learn, which brings the images.

Run it as: python examples/training/digits.py > examples/digits_data.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits  # 1797 images of 8 x 8 pixels, from 0 to 16; their classes are balanced

HIDDEN = 16
STEPS = 3000
FACTOR = 2**8  # of private_inference.py
SHOWN = 30


def scores(images: np.ndarray, layers: list[np.ndarray]) -> np.ndarray:
    """Return the score of each class: two layers with squares between them."""
    first, second = layers
    return (images @ first[:, :-1].T + first[:, -1]) ** 2 @ second[:, :-1].T + second[:, -1]


def train(images: np.ndarray, digits: np.ndarray) -> list[np.ndarray]:
    """Minimise the cross entropy with Adam."""
    source = np.random.default_rng(1)
    layers = [source.normal(0, 0.1, (HIDDEN, 65)), source.normal(0, 0.1, (10, HIDDEN + 1))]
    means, squares = ([np.zeros_like(layer) for layer in layers] for _ in range(2))
    wanted = np.eye(10)[digits]
    for step in range(1, STEPS + 1):
        hidden = images @ layers[0][:, :-1].T + layers[0][:, -1]
        all_scores = hidden**2 @ layers[1][:, :-1].T + layers[1][:, -1]
        likely = np.exp(all_scores - all_scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        errors = (likely - wanted) / len(images)
        back = 2 * hidden * (errors @ layers[1][:, :-1])
        slopes = [
            np.column_stack((back.T @ images, back.sum(axis=0))) + 1e-4 * layers[0],
            np.column_stack((errors.T @ hidden**2, errors.sum(axis=0))) + 1e-4 * layers[1],
        ]
        for layer, slope, mean, square in zip(layers, slopes, means, squares, strict=True):
            mean += 0.1 * (slope - mean)
            square += 0.001 * (slope**2 - square)
            layer -= 0.005 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return layers


def main() -> None:
    """Train on three quarters of the images, and print the network, how good it is, and images that it has not seen."""
    images, digits = load_digits(return_X_y=True)
    images = images / 16
    learn, test = np.arange(len(images)) % 4 != 0, np.arange(len(images)) % 4 == 0
    layers = [np.round(layer * FACTOR) / FACTOR for layer in train(images[learn], digits[learn])]
    right = int((scores(images[test], layers).argmax(axis=1) == digits[test]).sum())
    print('"""A network that reads digits, and images of some. Written by training/digits.py.')
    print()
    print(f"The network is right about {right} of {test.sum()} images that it was not trained with.")
    print('"""\n')
    print(f"# ruff: noqa: E501\nFACTOR = {FACTOR}  # of the weights\n# fmt: off\nLAYERS = [")
    for layer in layers:
        print("    [")
        for row in layer:
            print("        [" + ", ".join(str(round(weight * FACTOR)) for weight in row) + "],")
        print("    ],")
    print("]\nIMAGES = [  # of pixels from 0 to 16")
    for image in images[test][:SHOWN]:
        print("    [" + ", ".join(str(round(pixel * 16)) for pixel in image) + "],")
    print(f"]\nDIGITS = {digits[test][:SHOWN].tolist()}\n# fmt: on")


if __name__ == "__main__":
    main()
