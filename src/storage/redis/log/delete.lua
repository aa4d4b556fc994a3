-- Forgets a log, and rings for those who follow it.
--
-- KEYS  log, meta, open
-- ARGV  scenario, the command that publishes, the channel
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call(ARGV[2], ARGV[3], '')
return 1
