-- Forgets events up to a place, if the fence is current.
--
-- KEYS  log, meta
-- ARGV  fence, up to
-- Gives 1; 0: there is no such log; -1: fenced; a text: that is beyond this, the head.
local fence, head, first, holder = unpack(redis.call('HMGET', KEYS[2], 'fence', 'head', 'first', 'holder'))
if not head then return 0 end
if fence ~= ARGV[1] or not holder then return -1 end
local next = ARGV[2] + 1
if next > head + 1 then return head end
if next > tonumber(first) then
  next = string.format('%.0f', next)
  redis.call('XTRIM', KEYS[1], 'MINID', next .. '-0')
  redis.call('HSET', KEYS[2], 'first', next)
end
return 1
