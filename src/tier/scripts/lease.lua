-- Leases units of the budget of one Flameup key to one gateway.
-- What was spent in the window behind us, what is leased out, and what somebody else spends never come
-- to more than the limit, which is enough whatever the kind of Flameup's window; and units come at 95 of
-- 100 of the pace that would use it up.
-- KEYS: the purse, the units spent by time, the gateways
-- ARGV: 1 who asks; 2 units it has, spent and unanswered ones included; 3 to 6 units it wants, by class;
--       7 the limit it knows; 8 whether it learned that since it last asked; 9 the window in ms; 10 for
--       how many ms a 429 holds it off; 11 units that are used by all, as it was told, or -1; 12 units
--       that it has ever spent; then, in pairs, how many seconds ago it spent units of which it does not
--       know that they were heard of, and how many, the longest ago first
-- Returns units leased, the limit, ms that nothing is to be sent, gateways, ms until more may be had,
-- the share of what is wanted that this one wants in thousandths, units that are free, whether the
-- purse is too new to lease, units that may be leased at once, and whether it was unknown: then it is to
-- tell all that it has spent in the window, and what it has told of that is not taken in.
local MOST_LEASED = 10
local FRESH_MS, SEEN_MS, WANTS_MS = 5000, 5000, 1000
local RECORD = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local who, has, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[9])
-- What was spent is counted by so many seconds that a window has no more than 120 of them, under the last
-- of these: so it counts for no less long where another gateway has another window.
local span_s = math.max(1, math.ceil(window / 120000))
local function span_of(at) return (math.floor(at / 1000 / span_s) + 1) * span_s - 1 end
local record = redis.call('HGET', KEYS[3], who)

local purse = {}
local fields = redis.call('HGETALL', KEYS[1])
for index = 1, #fields, 2 do purse[fields[index]] = tonumber(fields[index + 1]) end
-- A clock may be behind the one before it: what lies ahead counts as now. Where nobody is known, nothing
-- is that was spent.
purse.opened = math.min(purse.opened or now, now)
if redis.call('EXISTS', KEYS[3]) == 0 then purse.opened = now end
if ARGV[8] == '1' or not purse.limit then purse.limit = tonumber(ARGV[7]) end
-- What comes round again is no longer by the way it took.
local held_until = math.min(purse.held_until or 0, now + 10 * window)
local told_until = now + tonumber(ARGV[10])
purse.held_until = told_until > held_until + 250 and told_until or held_until
local limit = purse.limit

purse.foreign_until = math.min(purse.foreign_until or 0, now + 2 * window)
purse.foreign_at = math.min(purse.foreign_at or 0, now)
if now >= purse.foreign_until then purse.foreign = 0 end
local span, given_back = span_of(now), 0
if record then
  -- It may be told twice, where an answer was lost: the latest are those that are new.
  local had, _, _, _, _, _, _, told = string.match(record, RECORD)
  local unheard = math.max(0, tonumber(ARGV[12]) - tonumber(told))
  given_back = tonumber(had) - has - unheard
  -- What it spent without a lease was taken for somebody else's, if Flameup told of it before it did.
  local alone = math.max(0, -given_back)
  for index = #ARGV - 1, 13, -2 do
    local at, spent = now - ARGV[index] * 1000, math.min(tonumber(ARGV[index + 1]), unheard)
    unheard = unheard - spent
    if spent > 0 then redis.call('HINCRBY', KEYS[2], span_of(at), spent) end
    -- The latest are those without a lease.
    local ours = math.min(alone, spent)
    alone = alone - ours
    if at <= purse.foreign_at + 1000 * span_s then purse.foreign = math.max(0, purse.foreign - ours) end
  end
end
local used, oldest = 0, span
local spans = redis.call('HGETALL', KEYS[2])
for index = 1, #spans, 2 do
  local at = math.min(tonumber(spans[index]), span)
  if tonumber(spans[index]) > span then
    redis.call('HDEL', KEYS[2], spans[index])
    redis.call('HINCRBY', KEYS[2], span, spans[index + 1])
  end
  if (at + 1) * 1000 + window <= now then
    redis.call('HDEL', KEYS[2], spans[index])
  else
    used, oldest = used + tonumber(spans[index + 1]), math.min(oldest, at)
  end
end

-- Who is silent may have spent all it had, until a window after it was heard of.
local gateways, leased, wanted, own = 0, 0, {0, 0, 0, 0}, {}
local waits_longest = {true, true, true}
for class = 1, 4 do own[class] = tonumber(ARGV[2 + class]) end
local known = redis.call('HGETALL', KEYS[3])
local last_lease = tonumber(record and select(7, string.match(record, RECORD)) or 0)
for index = 1, #known, 2 do
  if known[index] ~= who then
    local had, a, b, c, d, beat, last = string.match(known[index + 1], RECORD)
    local age = now - tonumber(beat)
    if age > window + 5000 then
      redis.call('HDEL', KEYS[3], known[index])
    else
      leased = leased + tonumber(had)
      if age <= SEEN_MS then gateways = gateways + 1 end
      if age <= WANTS_MS then
        -- More than a lease it will not have.
        local room = math.max(0, MOST_LEASED - tonumber(had))
        for class, wants in ipairs({tonumber(a), tonumber(b), tonumber(c), tonumber(d)}) do
          wants = math.min(wants, room)
          room = room - wants
          wanted[class] = wanted[class] + wants
          if wants > 0 and tonumber(last) < last_lease then waits_longest[class] = false end
        end
      end
    end
  end
end
gateways, leased = gateways + 1, leased + has

-- What everybody uses and we do not account for is somebody else's, for two windows.
local told = tonumber(ARGV[11])
if record and told >= 0 then
  local foreign = told - used - leased
  if foreign > purse.foreign then
    purse.foreign, purse.foreign_at, purse.foreign_until = foreign, now, now + 2 * window
  end
end

-- An even pace, with a burst of one lease. What comes back was never sent.
local rate = 0.95 * limit / window
local tokens = math.min(MOST_LEASED,
  (purse.tokens or MOST_LEASED) + math.max(0, given_back) + rate * math.max(0, now - (purse.paced_at or now)))
purse.paced_at = now

local free = math.max(0, limit - used - leased - purse.foreign)
local new, held = now - purse.opened < FRESH_MS, math.max(0, purse.held_until - now)
local units, left = 0, math.min(free, math.floor(tokens), math.max(0, MOST_LEASED - has))
local all, mine = 0, 0
for class = 1, 4 do
  local total = wanted[class] + own[class]
  all, mine = all + total, mine + own[class]
  if record and not new and held == 0 and left > 0 and own[class] > 0 then
    local granted
    if class == 4 then
      -- In stock, or for refreshes: not from the last tenth, of which the pace leaves a half anyway.
      granted = math.min(own[class], left, math.max(0, free - math.floor(limit / 20)))
    elseif total <= left then
      granted = own[class]
    else
      granted = math.floor(left * own[class] / total)
      if granted == 0 and waits_longest[class] then granted = 1 end
    end
    units, left, own[class] = units + granted, left - granted, own[class] - granted
  end
  -- The rest is for those of this class who ask elsewhere.
  left = math.max(0, left - wanted[class])
end
purse.tokens = tokens - units

local next_ms = math.max(1, math.ceil((1 - math.min(1, purse.tokens)) / rate))
if free <= units then next_ms = math.max(next_ms, (oldest + 1) * 1000 + window - now) end
if new then next_ms = FRESH_MS - (now - purse.opened) end

for field, value in pairs(purse) do redis.call('HSET', KEYS[1], field, value) end
redis.call('HSET', KEYS[3], who, string.format('%d %d %d %d %d %d %d %d',
  has + units, own[1], own[2], own[3], own[4], now, units > 0 and now or last_lease, record and ARGV[12] or 0))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 4 * window + 10000) end
local share = all > 0 and math.floor(1000 * mine / all) or math.floor(1000 / gateways)
local ready = math.max(0, math.min(free - units, math.floor(purse.tokens)))
return {units, limit, held, gateways, next_ms, share, free - units, new and 1 or 0, ready, record and 0 or 1}
