-- Leases units of the budget of one Flameup key to one gateway.
-- What was spent in the window behind us, what is leased out, and what somebody else spends never come
-- to more than 95 of 100 of the limit, whatever the kind of Flameup's window.
-- KEYS: the purse, the units spent by second, the gateways
-- ARGV: 1 who asks; 2 units it has spent since it last asked; 3 units it has, spent and unanswered ones
--       included; 4 to 7 units it wants, by class; 8 the limit it knows; 9 whether it learned that
--       since it last asked; 10 the window in ms; 11 for how many ms a 429 holds it off; 12 units that
--       are used by all, as it was told, or -1
-- Returns units leased, the limit, ms that nothing is to be sent, gateways, ms until more may be had,
-- the share of what is wanted that this one wants in thousandths, units that are free, whether the
-- purse is too new to lease, and units that may be leased at once.
local MOST_LEASED = 10
local FRESH_MS, SEEN_MS, WANTS_MS = 2000, 3000, 1000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local who, spent, has, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[10])

local purse = {}
local fields = redis.call('HGETALL', KEYS[1])
for index = 1, #fields, 2 do purse[fields[index]] = tonumber(fields[index + 1]) end
-- A clock may be behind the one before it: what lies ahead counts as now.
purse.opened = math.min(purse.opened or now, now)
if ARGV[9] == '1' or not purse.limit then purse.limit = tonumber(ARGV[8]) end
-- What comes round again is no longer by the way it took.
local held_until = math.min(purse.held_until or 0, now + 10 * window)
local told_until = now + tonumber(ARGV[11])
purse.held_until = told_until > held_until + 250 and told_until or held_until
local limit = purse.limit

-- What was spent counts from when it is told, which is later than when it was.
local second = math.floor(now / 1000)
if spent > 0 then redis.call('HINCRBY', KEYS[2], second, spent) end
local used, oldest = 0, second
local seconds = redis.call('HGETALL', KEYS[2])
for index = 1, #seconds, 2 do
  local at = math.min(tonumber(seconds[index]), second)
  if tonumber(seconds[index]) > second then
    redis.call('HDEL', KEYS[2], seconds[index])
    redis.call('HINCRBY', KEYS[2], second, seconds[index + 1])
  end
  if (at + 1) * 1000 + window <= now then
    redis.call('HDEL', KEYS[2], seconds[index])
  else
    used, oldest = used + tonumber(seconds[index + 1]), math.min(oldest, at)
  end
end

-- Who is silent may have spent all it had, until a window after it was heard of.
local gateways, leased, wanted, own = 0, 0, {0, 0, 0, 0}, {}
for class = 1, 4 do own[class] = tonumber(ARGV[3 + class]) end
local known = redis.call('HGETALL', KEYS[3])
local longest_waiting = true
local last_lease = tonumber(string.match(redis.call('HGET', KEYS[3], who) or '', '(%d+)$') or 0)
for index = 1, #known, 2 do
  if known[index] ~= who then
    local had, a, b, c, d, beat, last = string.match(known[index + 1],
      '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
    local age = now - tonumber(beat)
    if age > window + 5000 then
      redis.call('HDEL', KEYS[3], known[index])
    else
      leased = leased + tonumber(had)
      if age <= SEEN_MS then gateways = gateways + 1 end
      if age <= WANTS_MS then
        local theirs = {tonumber(a), tonumber(b), tonumber(c), tonumber(d)}
        local wants = 0
        for class = 1, 4 do
          wanted[class] = wanted[class] + theirs[class]
          if class < 4 then wants = wants + theirs[class] end
        end
        if wants > 0 and tonumber(last) < last_lease then longest_waiting = false end
      end
    end
  end
end
gateways, leased = gateways + 1, leased + has

-- What everybody uses and we do not account for is somebody else's, for two windows.
local told = tonumber(ARGV[12])
if now >= (purse.foreign_until or 0) then purse.foreign = 0 end
if told >= 0 then
  local foreign = told - used - leased
  if foreign > (purse.foreign or 0) then
    purse.foreign, purse.foreign_until = foreign, now + 2 * window
  end
end

-- An even pace, with a burst of one lease.
local safe = math.max(1, math.floor(limit * 0.95))
local rate = safe / window
local tokens = math.min(MOST_LEASED,
  (purse.tokens or MOST_LEASED) + rate * math.max(0, now - (purse.paced_at or now)))
purse.paced_at = now

local free = math.max(0, safe - used - leased - (purse.foreign or 0))
local new, held = now - purse.opened < FRESH_MS, math.max(0, purse.held_until - now)
local units, left = 0, math.min(free, math.floor(tokens), math.max(0, MOST_LEASED - has))
local all, mine = 0, 0
for class = 1, 4 do
  local total = wanted[class] + own[class]
  all, mine = all + total, mine + own[class]
  if not new and held == 0 and left > 0 and own[class] > 0 then
    local granted
    if class == 4 then
      -- In stock, or for refreshes: not from the last tenth.
      granted = math.min(own[class], left, math.max(0, free - math.floor(limit / 10)))
    elseif total <= left then
      granted = own[class]
    else
      granted = math.floor(left * own[class] / total)
      if granted == 0 and longest_waiting then granted = 1 end
    end
    units, left = units + granted, left - granted
    -- The rest is for those of this class who ask elsewhere.
    left = math.max(0, math.min(left, left - wanted[class]))
  end
  if own[class] == 0 then left = math.max(0, left - wanted[class]) end
end
purse.tokens = tokens - units

local next_ms = math.max(1, math.ceil((1 - math.min(1, purse.tokens)) / rate))
if free <= units then next_ms = math.max(next_ms, (oldest + 1) * 1000 + window - now) end
if new then next_ms = FRESH_MS - (now - purse.opened) end

for field, value in pairs(purse) do redis.call('HSET', KEYS[1], field, value) end
redis.call('HSET', KEYS[3], who, string.format('%d %d %d %d %d %d %d',
  has + units, own[1], own[2], own[3], own[4], now, units > 0 and now or last_lease))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 4 * window + 10000) end
local share = all > 0 and math.floor(1000 * mine / all) or math.floor(1000 / gateways)
local ready = math.max(0, math.min(free - units, math.floor(purse.tokens)))
return {units, limit, held, gateways, next_ms, share, free - units, new and 1 or 0, ready}
