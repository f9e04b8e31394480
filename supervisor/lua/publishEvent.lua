--[[
  publishEvent: add an event of somebody's own to the queue's stream.

  KEYS[1]      meta    HASH
  KEYS[2]      events  STREAM
  ARGV[1]      prefix of the queue's keys
  ARGV[2]      how many events stay, about; empty for as many as the queue keeps
  ARGV[3]      the event's name
  ARGV[4..]    pairs: field, text

  Derives      no key beyond KEYS
  Returns      the entry's id
  Events       the one that is given
  Cost         O(fields)
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
keep_max_events(queue)
local most = ARGV[2] ~= "" and ARGV[2] or queue.max_events
return redis.call("XADD", KEYS[2], "MAXLEN", "~", most, "*", "event", unpack(ARGV, 3))
