-- Gives a lease up, if the fence is current.
--
-- KEYS  meta, open
-- ARGV  scenario, fence, the command that publishes, the channel for orphans
local fence, holder, turn = unpack(redis.call('HMGET', KEYS[1], 'fence', 'holder', 'turn'))
if fence == ARGV[2] and holder then
  redis.call('HDEL', KEYS[1], 'holder')
  if turn then
    redis.call('ZADD', KEYS[2], 'XX', 0, ARGV[1])
    redis.call(ARGV[3], ARGV[4], ARGV[1])
  end
end
return 1
