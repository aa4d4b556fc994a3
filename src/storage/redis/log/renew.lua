-- Extends the leases of one bucket whose fences are current.
--
-- KEYS  open, then log and meta of each
-- ARGV  time to live in ms, life in ms, then scenario and fence of each
-- Gives the places (from 1) of those that are not.
local time = redis.call('TIME')
local lease_end = string.format('%.0f', math.floor(time[1] * 1000 + time[2] / 1000) + ARGV[1])
local lost = {}
for i = 1, (#KEYS - 1) / 2 do
  local log, meta, scenario = KEYS[2 * i], KEYS[2 * i + 1], ARGV[2 * i + 1]
  local fence, holder, turn = unpack(redis.call('HMGET', meta, 'fence', 'holder', 'turn'))
  if fence == ARGV[2 * i + 2] and holder then
    redis.call('HSET', meta, 'lease_end', lease_end)
    redis.call('PEXPIRE', log, ARGV[2])
    redis.call('PEXPIRE', meta, ARGV[2])
    if turn then
      redis.call('ZADD', KEYS[1], lease_end, scenario)
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
  else
    lost[#lost + 1] = i
  end
end
return lost
