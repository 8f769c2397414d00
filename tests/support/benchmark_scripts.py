"""The scripts of benchmarks/, which are in no package, and a page for one of their tables."""

import importlib.util

from repository import ROOT


def script(name):
    specification = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


PAGE = "before\n\n<!-- table: {} -->\nold\n<!-- end -->\nafter\n"


def fill(tables, name, folder):
    return tables.filled(PAGE.format(name), tables.Files(folder))
