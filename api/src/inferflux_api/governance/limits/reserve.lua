-- Counts a request if all of its charges fit, else nothing. One call is atomic over all replicas.
--
-- KEYS: the record of the request, then one counter per charge.
-- ARGV: the request's id, milliseconds a place among the running requests is kept without renewal, then
--       for each charge: seconds of its window (0: what runs at a time), amount, limit.
-- Returns: 1 if admitted, 0 if not, -1 if the request was settled before it came; then for each charge:
--       what is used, milliseconds until it is free again, milliseconds until the charge would fit.
local SLICES, RECORD_SECONDS, CONCURRENT_WAIT = 60, 90000, 1000

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local id, lease = ARGV[1], tonumber(ARGV[2])

local function whole(number)
  return string.format('%.0f', number)
end

-- What is used of a window, and its slices in order; what has left it is removed.
local function read_window(key, current)
  local flat, used, slices = redis.call('HGETALL', key), 0, {}
  for i = 1, #flat, 2 do
    local index, amount = tonumber(flat[i]), tonumber(flat[i + 1])
    if index > current then
      -- The clock went back: what seems to come from the future is of now, or it would count for ever.
      redis.call('HDEL', key, flat[i])
      redis.call('HINCRBY', key, whole(current), amount)
      index = current
    end
    if current - index > SLICES then
      redis.call('HDEL', key, flat[i])
    else
      used = used + amount
      slices[#slices + 1] = { index, amount }
    end
  end
  table.sort(slices, function(one, other) return one[1] < other[1] end)
  return used, slices
end

local state = redis.call('HGET', KEYS[1], 'state')
if state == 'settled' then
  return { -1 }
end

local charges, fits = {}, true
for i = 2, #KEYS do
  local base = 3 * (i - 2) + 2
  local seconds, amount, limit = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2]), tonumber(ARGV[base + 3])
  local charge = { key = KEYS[i], seconds = seconds, amount = amount, reset = 0, wait = 0 }
  if seconds == 0 then
    local latest = now * 1000 + lease
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now * 1000)
    -- The clock went back: no place is kept for longer than a lease.
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], latest + 1000, '+inf')) do
      redis.call('ZADD', KEYS[i], latest, member)
    end
    charge.used = redis.call('ZCARD', KEYS[i])
    if charge.used + amount > limit then charge.wait = CONCURRENT_WAIT end
  else
    local step = seconds / SLICES
    local slices
    charge.current = math.floor(now / step)
    charge.used, slices = read_window(KEYS[i], charge.current)
    local excess = charge.used + amount - limit
    local over = excess > 0
    for _, slice in ipairs(slices) do
      excess = excess - slice[2]
      charge.reset = ((slice[1] + SLICES + 1) * step - now) * 1000
      if over and charge.wait == 0 and excess <= 0 then charge.wait = charge.reset end
    end
    if over and charge.wait == 0 then charge.wait = math.max(charge.reset, 1) end
  end
  if charge.wait > 0 then fits = false end
  charges[#charges + 1] = charge
end

if state == 'held' then
  -- The answer to an earlier attempt was lost on its way.
  fits = true
  for _, charge in ipairs(charges) do charge.wait = 0 end
elseif fits then
  for i, charge in ipairs(charges) do
    if charge.seconds == 0 then
      redis.call('ZADD', charge.key, now * 1000 + lease, id)
      redis.call('PEXPIRE', charge.key, lease * 2)
    else
      redis.call('HINCRBY', charge.key, whole(charge.current), charge.amount)
      redis.call('PEXPIRE', charge.key, math.ceil(charge.seconds * 1100))
      redis.call('HSET', KEYS[1], tostring(i), whole(charge.current))
      charge.reset = ((charge.current + SLICES + 1) * charge.seconds / SLICES - now) * 1000
    end
    charge.used = charge.used + charge.amount
  end
  redis.call('HSET', KEYS[1], 'state', 'held')
  redis.call('EXPIRE', KEYS[1], RECORD_SECONDS)
end

local reply = { fits and 1 or 0 }
for _, charge in ipairs(charges) do
  reply[#reply + 1] = charge.used
  reply[#reply + 1] = math.ceil(charge.reset)
  reply[#reply + 1] = math.ceil(charge.wait)
end
return reply
