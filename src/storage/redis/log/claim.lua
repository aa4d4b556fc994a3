-- Claims the lease of a log, which is begun if there is none.
--
-- KEYS  log, meta, open, since
-- ARGV  scenario, holder, time to live in ms, epoch and head of a log that is begun, life in ms, how long after the
--       bucket was first seen (ms) no log is begun by this claim, life in ms of the note of when that was
-- Gives {holder, ms} if someone else holds it, {ms} if no log may be begun yet, else {fence, epoch, first, head,
-- checkpoint or nil}.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local epoch, first, head, last_fence, holder, lease_end, turn, checkpoint = unpack(redis.call('HMGET', KEYS[2],
  'epoch', 'first', 'head', 'fence', 'holder', 'lease_end', 'turn', 'checkpoint'))

-- A server that has lost its data does not know the bucket either.
local since = redis.call('GET', KEYS[4])
if not since then
  since = string.format('%.0f', now)
  redis.call('SET', KEYS[4], since)
end
redis.call('PEXPIRE', KEYS[4], ARGV[8])

if head and tonumber(head) >= tonumber(first) and redis.call('EXISTS', KEYS[1]) == 0 then
  head = false -- its events are lost (evicted, say): so is the log
end
if not head then
  local wait = since + ARGV[7] - now
  if wait > 0 then return {string.format('%.0f', wait)} end
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
  epoch, head, holder, turn, checkpoint = ARGV[4], ARGV[5], false, false, false
  first = string.format('%.0f', head + 1)
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'first', first, 'head', head)
end
if holder and holder ~= ARGV[2] and tonumber(lease_end) > now then
  return {holder, string.format('%.0f', lease_end - now)}
end

-- No fence of a log that was lost is ever valid for its successor: they are as large as the time.
local fence = string.format('%.0f', math.max((last_fence or 0) + 1, micros))
local lease_end = string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[2], 'fence', fence, 'holder', ARGV[2], 'lease_end', lease_end)
if turn then
  redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return {fence, epoch, first, head, checkpoint}
