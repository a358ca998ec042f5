# SPDX-License-Identifier: MIT
"""Allocation as Python programs do it: objects, dicts, strings, JSON. Argument: rounds."""

import json
import sys


class Node:
    def __init__(self, key, value):
        self.key = key
        self.value = value
        self.left = None
        self.right = None


def insert(root, key, value):
    if root is None:
        return Node(key, value)
    node = root
    while True:
        side = "left" if key < node.key else "right"
        child = getattr(node, side)
        if child is None:
            setattr(node, side, Node(key, value))
            return root
        node = child


def total(root):
    stack, result = [root], 0
    while stack:
        node = stack.pop()
        if node is not None:
            result += len(node.value)
            stack += (node.left, node.right)
    return result


def one_round(number):
    root = None
    state = number
    for _ in range(3000):
        state = (state * 1103515245 + 12345) % 2**31
        root = insert(root, state, f"value {state} of round {number}")
    table = {f"key{i}": [i, str(i) * 3, {"n": i}] for i in range(4000)}
    text = json.dumps(table, sort_keys=True)
    back = json.loads(text)
    words = " ".join(back).split("9")
    return total(root) + len(text) + len(words) + sum(len(row) for row in back.values())


print(sum(one_round(number) for number in range(int(sys.argv[1]))))
