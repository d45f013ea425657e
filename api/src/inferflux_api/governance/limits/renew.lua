-- Keeps the places of requests that still run.
--
-- KEYS: the counter.
-- ARGV: milliseconds a place is kept without renewal, then the requests' ids.
local time = redis.call('TIME')
local until_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 + tonumber(ARGV[1])
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], until_ms, ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]) * 2)
return 1
