--[[
  retryJobs: one slice of the jobs that finished until a moment wait again, the oldest first.

  Each goes where retryJob would put it: BullMQ's own bulk form forgets their priority.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, the state they are taken from: failed or completed
  ARGV[3..4]   the moment in milliseconds, how many
  ARGV[5..6]   1 to forget the attempts made, 1 to forget the attempts started

  Derives      every key of the queue; the parents' keys from the jobs' hashes
  Returns      [how many were looked at, how many wait again], or [-100, what is wrong]
  Events       waiting
  Cost         O(jobs log finished)
]]
--- include lib/queue
--- include lib/parent
--- include lib/retry
local queue = open_queue(ARGV[1])
local state, finished = ARGV[2], ARGV[1] .. ARGV[2]
local resets = { made = ARGV[5] == "1", started = ARGV[6] == "1" }
local trouble = queue.trouble or wrong_waiting_types(queue) or wrong_type(finished, "zset")
if trouble then
  return { -100, trouble }
end
local ids = redis.call("ZRANGEBYSCORE", finished, 0, ARGV[3], "LIMIT", 0, ARGV[4])
local again = 0
for _, id in ipairs(ids) do
  local code, wrong = retry_job(queue, id, state, resets)
  if wrong then
    if again > 0 then
      wake(queue)
    end
    return { -100, wrong }
  elseif code == 0 then
    again = again + 1
  else
    redis.call("ZREM", finished, id) -- an id without a job: nothing that could run
  end
end
if again > 0 then
  wake(queue)
end
return { #ids, again }
