--[[
  wakeWorker: put the base marker back, for whoever popped it and will not fetch.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys

  Derives      active, marker
  Returns      0
  Events       none
  Cost         O(1)
]]
--- include lib/queue
wake(open_queue(ARGV[1]))
return 0
