--[[
  removeChildren: delete the children that a job still waits for, with theirs. Those that a worker holds and
  those that failed stay.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys with its last colon, id of the parent

  Derives      every key of the queue, of the job and of those below it in their own queues
  Returns      1, -1 when there is no such job, or 2 when they are too many for one call: nothing is
               done, see removeBelow
  Events       removed of each; waiting of a parent when none is left
  Cost         O(jobs below x (waiting + active) of their queues), at most a hundred jobs and 100,000 elements
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/family

local job = { prefix = ARGV[1], id = ARGV[2], key = ARGV[1] .. ARGV[2] }
if redis.call("EXISTS", job.key) == 0 then
  return -1
end
if is_large(job, PENDING_ONLY, ONE_CALL) then
  return 2
end
remove_children(job, PENDING_ONLY, true, { [job.key] = true })
return 1
