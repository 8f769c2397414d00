"""The examples in the docstrings of every loss and metric are so."""

import doctest
import inspect

import pytest
import torch

from vergence import losses
from vergence.metrics import collapse, diagnosis

FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in (losses, collapse, diagnosis)
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__.startswith(module.__name__) and not name.startswith("_")
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_is_so(name):
    function = FUNCTIONS[name]
    if name.endswith("of_embeddings"):  # a decorator
        return
    known = {"torch": torch, **vars(losses), **vars(collapse), **vars(diagnosis)}
    (example,) = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs=known)
    assert example.examples, f"{name} shows no example"
    said: list[str] = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)
