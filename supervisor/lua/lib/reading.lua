-- reading: what follows letter, id and token of an outcome, by its letter; but of D, the commonest, which is read
-- where they all are. Each takes the outcome and where its own part begins, and returns where the next one does.

local function read_keep(at)
  return { count = tonumber(ARGV[at]), age = tonumber(ARGV[at + 1]), limit = tonumber(ARGV[at + 2]) }
end

local READ = {
  C = function(outcome, at)
    outcome.text, outcome.keep = ARGV[at], read_keep(at + 1)
    return at + 4
  end,
  F = function(outcome, at)
    outcome.text = ARGV[at]
    outcome.stack = ARGV[at + 1] ~= "" and ARGV[at + 1] or nil
    outcome.keep = read_keep(at + 2)
    outcome.attempts, outcome.stack_limit = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
    outcome.spare_parent = ARGV[at + 7] == "1"
    outcome.dead_letter = ARGV[at + 8] ~= "" and ARGV[at + 8] or nil
    outcome.told = ARGV[at + 9] ~= "" and ARGV[at + 9] or nil
    return at + 10
  end,
  R = function(outcome, at)
    outcome.text = ARGV[at]
    outcome.stack = ARGV[at + 1] ~= "" and ARGV[at + 1] or nil
    outcome.delay, outcome.lifo = tonumber(ARGV[at + 2]), ARGV[at + 3] == "1"
    outcome.stack_limit = tonumber(ARGV[at + 4])
    outcome.told = ARGV[at + 5] ~= "" and ARGV[at + 5] or nil
    return at + 6
  end,
  P = function(outcome, at)
    outcome.delay = tonumber(ARGV[at])
    return at + 1
  end,
  L = function(outcome, at)
    outcome.hold = tonumber(ARGV[at])
    return at + 1
  end,
  H = function(outcome, at)
    outcome.told = ARGV[at] ~= "" and ARGV[at] or nil
    return at + 1
  end,
  W = function(_, at)
    return at
  end,
}
