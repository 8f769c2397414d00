"""When periodic work is due."""


def due(step: int, every: int, total: int) -> bool:
    """Whether periodic work is to be done after step `step` of `total` (counted from 1): at each multiple and at the
    end; never where `every` is 0.
    """
    return every > 0 and (step % every == 0 or step == total)
