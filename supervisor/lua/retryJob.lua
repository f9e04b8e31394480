--[[
  retryJob: a finished job waits again.

  A parent that still waits for children waits for this one again; one that went on is left where it is.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, job id
  ARGV[3]      the state it is taken from: failed or completed
  ARGV[4..5]   1 to forget the attempts made, 1 to forget the attempts started

  Derives      every key of the queue; the parent's keys from the job's hash
  Returns      0, -1 without a hash, -3 when it is not in that state, or [-100, what is wrong]
  Events       waiting
  Cost         O(log finished)
]]
--- include lib/queue
--- include lib/parent
--- include lib/retry
local queue = open_queue(ARGV[1])
local code, trouble = retry_job(queue, ARGV[2], ARGV[3], { made = ARGV[4] == "1", started = ARGV[5] == "1" })
if trouble then
  return { -100, trouble }
end
if code == 0 then
  wake(queue)
end
return code
