"""Faults put into a run from outside: at a step, into whatever method is built."""

from vergence import methods


class Fault:
    """Spoils one number at one step of every method that is built, until it is lifted.

    `done` holds the steps at which it did.
    """

    def __init__(self, monkeypatch, spoil, step):
        self.done, self.lifted, self.spoil, self.at = [], False, spoil, step
        build = methods.build
        monkeypatch.setattr(methods, "build", lambda run: self.attach(build(run)))

    def attach(self, method):
        method.seen = 0
        method.register_forward_pre_hook(self.before)
        method.register_forward_hook(self.after)
        return method

    def before(self, method, inputs):
        method.seen += 1
        if method.seen == self.at and not self.lifted:
            self.done.append(method.seen)
            return self.spoil(method, "before", inputs)
        return None

    def after(self, method, inputs, outputs):
        if method.seen == self.at and not self.lifted:
            return self.spoil(method, "after", outputs)
        return None
