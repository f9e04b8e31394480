--[[
  removeFlow: delete a job in whatever state it is, and all jobs below it, unless a worker holds one that is
  pending.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys with its last colon, job id

  Derives      every key of the queue, of the job and of those below it in their own queues; the parent's keys
               from the job's hash
  Returns      1 also when there was none, 0 when a lock is held, -8 when it is the pending job of a scheduler,
               2 when it is too large for one call: nothing is done, see removeBelow
  Events       removed of each; waiting of a parent that waited for the last of them
  Cost         O(jobs below x (waiting + active) of their queues), at most a hundred jobs and 100,000 elements
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/family

local job = { prefix = ARGV[1], id = ARGV[2], key = ARGV[1] .. ARGV[2] }
local scheduler = redis.pcall("HGET", job.key, "rjk")
if type(scheduler) == "string" then
  local due = redis.pcall("ZSCORE", job.prefix .. "repeat", scheduler)
  if type(due) == "string" and job.id == "repeat:" .. scheduler .. ":" .. due then
    return -8
  end
end
if is_large(job, ALL_CHILDREN, ONE_CALL) then
  return 2
end
if is_held_below(job, {}) then
  return 0
end
remove_children(job, ALL_CHILDREN, false, { [job.key] = true })
remove_alone(job, fields_of(job))
return 1
