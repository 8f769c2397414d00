"""A method whose copies on several processes leave the mean of their gradients."""

from torch import Tensor, nn

from vergence.machine.processes import Group
from vergence.methods import Method, Outputs


def replicated(method: Method, group: Group) -> nn.Module:
    """Return what computes a method's outputs and leaves the gradient of the whole batch; the method itself, alone."""
    return method if group.size == 1 else group.replicated(_LossAlone(method))


class _LossAlone(nn.Module):
    """A method of whose outputs the loss alone has a gradient: parameters that no gradient will reach are known."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(self, *crops: Tensor) -> Outputs:
        outputs = self.method(*crops)
        terms = {name: term.detach() for name, term in outputs.terms.items()}
        seen = [None if part is None else part.detach() for part in outputs[2:]]
        return Outputs(outputs.loss, terms, *seen)  # type: ignore[arg-type]
