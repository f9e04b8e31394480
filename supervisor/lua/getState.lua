--[[
  getState: where a job is. A script, because a job that moves between two reads would seem to be nowhere.

  KEYS[1..8]   completed failed delayed prioritized  ZSET
               active wait paused                    LIST
               waiting-children                      ZSET
  ARGV[1]      job id

  Derives      no key beyond KEYS
  Returns      the position of the key that holds it, from 1; 0 for none
  Events       none
  Cost         O(waiting + active)
]]
for i = 1, 8 do
  local verb = (i >= 5 and i <= 7) and "LPOS" or "ZSCORE"
  if redis.call(verb, KEYS[i], ARGV[1]) then
    return i
  end
end
return 0
