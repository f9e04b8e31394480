-- codes: what became of an outcome, in BullMQ's numbers and ours. One table: a name of its own for each would
-- cost every call more than looking it up.
local CODE = {
  DONE = 0, NO_JOB = -1, NO_LOCK = -2, NOT_IN_STATE = -3, PENDING_CHILDREN = -4, OTHER_LOCK = -6,
  FAILED_CHILDREN = -9, GUILTY = -100,
}

-- What an outcome says of how many finished jobs stay, when all do.
local KEEP_ALL = {}
