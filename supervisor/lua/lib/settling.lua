-- settling: read the outcomes that a call brings, and write them. Needs lib/view, lib/codes, lib/completed,
-- lib/seldom and lib/outcomes.

-- One outcome, and where the next one begins.
local function read_outcome(queue, at)
  local used
  if ARGV[at] == "U" then
    used, at = ARGV[at + 1], at + 2
  end
  local kind, id = ARGV[at], ARGV[at + 1]
  local outcome = {
    kind = kind, id = id, token = ARGV[at + 2], key = queue.prefix .. id, ends = kind == "C" or kind == "F",
    used = used, text = nil, keep = nil, attempts_made = nil, -- the table is made with room for these
  }
  if kind ~= "D" then
    return outcome, seldom().READ[kind](outcome, at + 3)
  end
  outcome.kind, outcome.ends, outcome.text, outcome.keep = "C", true, ARGV[at + 3], KEEP_ALL
  return outcome, at + 4
end

-- Whether the call is plain is one question for all its jobs: has one of them children, is somebody waiting for the
-- end of one that was cancelled? Mostly not, and then nothing of it is asked job by job.
local function read_outcomes(call, queue)
  local outcomes, locks, oddities, at = {}, {}, { queue.prefix .. "ox:cancel" }, FIRST_OUTCOME
  while ARGV[at] do
    local outcome
    outcome, at = read_outcome(queue, at)
    local number, key = #outcomes + 1, outcome.key
    outcome.position, outcome.lock = number, key .. ":lock"
    outcomes[number] = outcome
    locks[number] = outcome.lock
    oddities[2 * number] = key .. ":dependencies"
    oddities[2 * number + 1] = key .. ":unsuccessful"
  end
  if locks[1] then
    call.plain = redis.call("EXISTS", unpack(oddities)) == 0
    local held = redis.call("MGET", unpack(locks))
    for i, outcome in ipairs(outcomes) do
      outcome.held = held[i]
    end
  end
  return outcomes
end

-- The locks of what is no longer active, and what holds it suspected.
local function let_go(queue, outcomes)
  local locks, ids = {}, {}
  for _, outcome in ipairs(outcomes) do
    if outcome.let_go then
      ids[#ids + 1] = outcome.id
      locks[#ids] = outcome.lock
    end
  end
  if #ids > 0 then
    known_types[queue.active] = "list" -- LREM would have said so
    redis.call("DEL", unpack(locks))
    -- Best effort: a corrupt key hurts no job, the stalled check replaces it.
    redis.pcall("SREM", queue.prefix .. "stalled", unpack(ids))
  end
  return #ids
end

local function settle_all(call, queue)
  local codes, texts = call.codes, call.texts
  local outcomes = read_outcomes(call, queue)
  for i, outcome in ipairs(outcomes) do
    local ran, code, text = pcall(settle, call, queue, outcome)
    if not ran then
      code, text = CODE.GUILTY, seldom().text_of(code)
      call.refused = seldom().refused_to_all(text)
      if call.refused then
        return
      end
      seldom().undo(call, queue, outcome)
    elseif call.again and code ~= CODE.DONE and code ~= CODE.GUILTY then
      text = seldom().seen_instead(call, outcome, code)
      code = text == "written" and CODE.DONE or code
    end
    codes[i] = code
    if text then
      texts[#texts + 1] = i - 1
      texts[#texts + 1] = text
    end
  end
  end_run(call, queue)
  call.released = let_go(queue, outcomes)
end
