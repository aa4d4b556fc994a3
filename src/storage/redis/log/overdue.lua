-- Which open turns of a bucket have a lease that ran out or was given up.
--
-- KEYS  open
-- ARGV  at most
local time = redis.call('TIME')
local now = string.format('%.0f', math.floor(time[1] * 1000 + time[2] / 1000))
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
