"""Vergence: self-supervised learning from two views of a picture, with a verdict on collapse.

The parts are modules: `losses`, `metrics`, `methods`, `augment`, `data`, `config`, `presets`, `runs`. Importing this
package imports none of them, so that `vergence --help` does not wait for torch.
"""

__version__ = "0.1.0"
