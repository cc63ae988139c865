from whatwhere.rehearsal.checkpoints import *  # noqa
from whatwhere.rehearsal.checkpoints import _ids, _save  # noqa
