--[[
  finishAndFetch: write what became of some jobs of one queue, then take the next ones, in one call.

  Outcomes come first and each stands alone: what could go wrong is looked at before its first write, and an
  error caught all the same is the answer for that one only. Then due delayed jobs are promoted, and for each
  job the limiter, the pause and the global concurrency are asked. An error of the fetching half never hides
  the answers to the outcomes.

  Sent again after a lost reply (again = 1), the same call finds the jobs it took by their locks, and writes an
  outcome only where its lock still holds.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      now, epoch milliseconds; with a sign: so many microseconds more than Redis' own clock says, for
               a call that waits at the server before it runs
  ARGV[3]      lock token of every job taken by this call
  ARGV[4]      lock duration, milliseconds
  ARGV[5]      how many jobs to take at most
  ARGV[6..7]   the worker's limiter: jobs, milliseconds; 0 0 for none
  ARGV[8]      worker name, or empty
  ARGV[9]      data points of metrics to keep; 0 for none
  ARGV[10]     1 when this call was sent before
  ARGV[11..]   outcomes, each a letter, the job id, its token, and by the letter
                 D  done         result JSON: completed, and as many are kept as there are
                 C  completed    result JSON, keep count, keep age s, keep limit
                 F  failed       reason, stack entry JSON, keep count, keep age s, keep limit,
                                 attempts, stack limit, 1 to spare the parent, prefix of the keys of the
                                 queue that gets a copy with its last colon, or empty, told
                 R  retried      reason, stack entry JSON, delay ms, 1 for lifo, stack limit, told
                 P  postponed    delay ms
                 L  rate limited hold ms
                 H  handed back  told
                 W  waiting for its children
               before a D, C, F or R may stand U and what was measured of the attempt, JSON
               told is what lib/verdict.lua keeps; an empty text stands for "not given"

  Derives      every key of the queue from the prefix; the parent's keys and its queue's from the job's hash;
               those of the queue that gets copies from its prefix
  Returns      [codes, [position, text, ..], jobs, [dropped id, reason, ..],
                limited ms, held 0|1, next due epoch ms, fetch error or empty]
               a code is 0, BullMQ's negative one, or -100 with a text; positions count from 0; the text of
               a 0 tells why there is no copy (the job is kept then);
               a job is [id, name, data, opts, timestamp, priority, ats], and behind that, when it has one of
               these, [.., atm, attemptsMade, stc, defa, parent, rjk, ox:crashes, ox:bigger]
               or an error that says READONLY, MISCONF or NOREPLICAS: nothing was written
  Events       completed, failed, retries-exhausted, delayed, waiting, waiting-children, active, drained; added
               of a held-back deduplicated job; of a parent's queue waiting, delayed; of the queue that gets
               copies added, waiting
  Cost         O(outcomes + jobs), besides what keepJobs removes; LREM is O(active)
]]
--- include lib/record
--- include lib/plain

-- What a plain call has no need of.
local function careful(now_text)
--- include lib/view
--- include lib/codes
--- include lib/completed
--- include lib/seldom
--- include lib/careful
end

local now_text, first_byte = ARGV[2], ARGV[2]:byte()
if first_byte == 43 or first_byte == 45 then -- + or -
  local clock = redis.call("TIME")
  now_text = string.format("%.0f", math.floor((clock[1] * 1000000 + clock[2] + tonumber(now_text)) / 1000))
end
return plain(now_text) or careful(now_text)
