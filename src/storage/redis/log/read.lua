-- Reads events after a place, up to a number of bytes.
--
-- KEYS  log, meta
-- ARGV  after, most bytes
-- Gives nil if there is no such log, else {epoch, first, head, seq of the first event, the events}.
local PAGE = 64
local epoch, first, head = unpack(redis.call('HMGET', KEYS[2], 'epoch', 'first', 'head'))
if not head then return false end
local seq, last, left = math.max(ARGV[1] + 1, first), tonumber(head), tonumber(ARGV[2])
local found = {epoch, first, head, string.format('%.0f', math.min(seq, last + 1))}
while seq <= last do
  local count = math.min(PAGE, last - seq + 1)
  local page = redis.call('XRANGE', KEYS[1], string.format('%.0f-0', seq), '+', 'COUNT', count)
  if #page < count then return false end -- events are lost (evicted, say): so is the log
  for i = 1, count do
    local event = page[i][2][2]
    if #event > left and #found > 4 then return found end
    left = left - #event
    found[#found + 1] = event
  end
  seq = seq + count
end
return found
