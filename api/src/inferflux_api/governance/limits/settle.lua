-- Ends a request: corrects what was counted for it. It may be called again, and before `reserve`, which then
-- counts nothing.
--
-- KEYS: the record of the request, then its counters as for `reserve`.
-- ARGV: the request's id, then for each counter: seconds of its window (0: what runs at a time), and what to
--       add; negative gives back.
local SLICES, SETTLED_SECONDS = 60, 600

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local held = redis.call('HGET', KEYS[1], 'state') == 'held'

for i = 2, #KEYS do
  local base = 2 * (i - 2) + 1
  local key, seconds, owed = KEYS[i], tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2])
  if seconds == 0 then
    redis.call('ZREM', key, ARGV[1])
  elseif held and owed > 0 then
    redis.call('HINCRBY', key, string.format('%.0f', math.floor(now / (seconds / SLICES))), owed)
    redis.call('PEXPIRE', key, math.ceil(seconds * 1100))
  elseif held and owed < 0 then
    local slice = redis.call('HGET', KEYS[1], tostring(i - 1))
    if slice and redis.call('HEXISTS', key, slice) == 1 and redis.call('HINCRBY', key, slice, owed) <= 0 then
      redis.call('HDEL', key, slice)
    end
  end
end

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'state', 'settled')
redis.call('EXPIRE', KEYS[1], SETTLED_SECONDS)
return 1
