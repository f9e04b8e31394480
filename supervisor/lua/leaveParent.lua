--[[
  leaveParent: a child's parent no longer waits for it, and the child has none.

  KEYS[1]      child  HASH
  ARGV[]       none

  Derives      the parent's keys and its queue's from the child's hash
  Returns      0 done, 1 when its parent does not wait for it (it has ended, or was taken off before), -1 no
               job, -5 no parent, or [-100, what is wrong]
  Events       of the parent's queue waiting, when it was the last child
  Cost         O(1)
]]
--- include lib/queue
--- include lib/parent

local GUILTY = -100
local key = KEYS[1]
if redis.call("EXISTS", key) == 0 then
  return -1
end
local trouble = wrong_type(key, "hash")
if trouble then
  return { GUILTY, trouble }
end
local fields = redis.call("HMGET", key, "parentKey", "parent")
local parent
parent, trouble = parent_of(fields[1], fields[2])
if trouble then
  return { GUILTY, trouble }
end
if not parent or redis.call("EXISTS", parent.key) == 0 then
  return -5
end
trouble = wrong_parent_types(parent)
if trouble then
  return { GUILTY, trouble }
end
if redis.call("SISMEMBER", parent.key .. ":dependencies", key) == 0 then
  return 1
end
redis.call("HDEL", key, "parentKey", "parent")
detach_child(parent, key)
return 0
