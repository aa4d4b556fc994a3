-- Takes out of a bucket's index those whose log is gone; gives the places (from 1) of the others.
--
-- KEYS  open, then meta of each
-- ARGV  the scenarios
local there = {}
for i = 1, #ARGV do
  if redis.call('HEXISTS', KEYS[i + 1], 'turn') == 1 then
    there[#there + 1] = i
  else
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return there
