-- Adds events at the head, if the fence is current: all or nothing.
--
-- KEYS  log, meta, open
-- ARGV  scenario, fence, first seq, life in ms, '1' if there is a checkpoint, the checkpoint, turn ('1' opens it, '0'
--       closes it, '' leaves it), the command that publishes, the channel, then the events
-- Gives 1; 0: there is no such log; -1: fenced; a text: out of sequence, this is the head.
local fence, head, first, holder, lease_end =
  unpack(redis.call('HMGET', KEYS[2], 'fence', 'head', 'first', 'holder', 'lease_end'))
if not head then return 0 end
if fence ~= ARGV[2] or not holder then return -1 end
local seq = tonumber(head)
if string.format('%.0f', seq + 1) ~= ARGV[3] then return head end

local life, has_checkpoint, turn = ARGV[4], ARGV[5] == '1', ARGV[7]
local is_empty = seq < tonumber(first)
for i = 10, #ARGV do
  seq = seq + 1
  local id = string.format('%.0f-0', seq)
  if is_empty then
    redis.call('XADD', KEYS[1], id, 'e', ARGV[i])
    redis.call('PEXPIRE', KEYS[1], life)
    is_empty = false
  elseif not redis.call('XADD', KEYS[1], 'NOMKSTREAM', id, 'e', ARGV[i]) then
    -- The events before this one are lost (evicted, say), and with them the log. Only the first can find that.
    redis.call('DEL', KEYS[2])
    redis.call('ZREM', KEYS[3], ARGV[1])
    return 0
  end
end
head = string.format('%.0f', seq)
if has_checkpoint then
  redis.call('HSET', KEYS[2], 'head', head, 'checkpoint', ARGV[6])
elseif #ARGV > 9 then
  redis.call('HSET', KEYS[2], 'head', head)
end
if turn == '1' then
  redis.call('HSET', KEYS[2], 'turn', '1')
  redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
  redis.call('PEXPIRE', KEYS[3], life)
elseif turn == '0' then
  redis.call('HDEL', KEYS[2], 'turn')
  redis.call('ZREM', KEYS[3], ARGV[1])
end
-- Claims and renewals prolong the life as well, so that the many appends of mere text need not.
if has_checkpoint or turn ~= '' then
  redis.call('PEXPIRE', KEYS[1], life)
  redis.call('PEXPIRE', KEYS[2], life)
end
if #ARGV > 9 then
  redis.call(ARGV[8], ARGV[9], head)
end
return 1
