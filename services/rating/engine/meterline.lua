#!lua name=meterline
-- The decision: one call decides a batch of operations of one cell.
--
-- It loads what the batch touches, works on it as plain tables, and writes only at the very end. An error on the way
-- therefore changes nothing. What it decided goes, with the state that it left behind, into the cell's stream, from
-- where any process can journal it. Numbers are doubles: every amount and volume is a whole number below 2^53, and
-- what could leave that range is refused. services/rating/engine/wire.py is the other side of every layout here.

local pack, unpack_blob, floor, ceil, min, max -- libraries are there only while a call runs

local NOTHING = {} -- read only
local EXACT_MAX = 9007199254740991 -- 2^53 - 1
local SWEEP_MAX = 20 -- expired sessions closed by one call

-- A holder: what one payer has. The endpoint is one, an account with balances or a limit is one. BLOCKED names, as
-- digits, the services of which reported usage was not covered. COUNTERS are what prices count over days and cycles,
-- each {begin of the last period, count, begin of one before, its count, ...}; by `+` and its name what grants may add to one,
-- {begin of the period, count}; and by `|` and its reference what they count over each session of events: {time of the last use, counts}.
-- FULL is what the money was when some was last put in; it is not there before.
local VERSION, BUCKETS, MONEY, MONEY_RESERVED, USED, USED_RESERVED, LIMIT, LIMIT_VERSION, BLOCKED, COUNTERS, FULL = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local COUNTERS_KEPT_S = 100 * 86400
local PERIODS_KEPT, PERIODS_KEPT_S = 40, 40 * 86400 -- of a counter: those of the last 40 days, 40 at most, two at least
-- A bucket of a holder. FILLED is where in the journal it was last filled anew, 0 if it never was: what was drawn
-- before does not go back into it. RENEWAL is there only if it is filled again in another way than with GRANTED at each cycle, or
-- announces itself at shares of its own. What rolled over from a cycle is a bucket whose VALIDITY is minus the order in which
-- it is drawn (OLDEST_FIRST, NEWEST_FIRST, PRESENT_FIRST). TOLD is the end of its assignment as of the first use from which it
-- is valid, and RENEWAL then false, if there is none; of a base plan that was replaced it is when that was. FORMER is what was
-- left at its last two ends, {end, rest, end before, rest}: for uses from before them that are told late.
local ID, REF, PRIORITY, ROLE, REMAINING, RESERVED, GRANTED, STATE, ACTIVATED, EXPIRES, VALIDITY, CYCLES, UNIT, FILLED, RENEWAL, TOLD, FORMER = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
-- A renewal, by name: quantity (what it is filled with), on (ON_EXPIRY, ON_EXHAUSTION; 0 with the cycles only), most
-- (occurrences, 0 without end), number (of the present one), last_end (when it ends for good, 0 never), ends (when the
-- present one would end by itself; not there for the one that its activation began), cycles (for how many a rest rolls
-- over), order (in which rests are drawn, if not OLDEST_FIRST), rests_most (that they hold together, if there is a bound), shares (used, at which to say so, percent), team (what the
-- members of a plan share: GROWS with them, or FIXED), short (what was used of what those who left had brought: it comes off
-- what is brought next).
local ROLE_BASE, ROLE_POOL = 2, 3
local UNIT_MONEY = 4
local PENDING, ACTIVE, DEPLETED, EXPIRED = 1, 2, 3, 4
-- A step of a program. RATE is a simple price; PRICING, in its place, one that counts over more than a record or has
-- tiers, bounds or fees. POOL is a second holder whose buckets may be drawn. LIMITS are what is counted whatever pays
-- for it, each {count, holder of it, period, most that may be used}. REFS are the benefits that may be drawn: true, or
-- which of the MEASURES says how. REPEATS is there if only add-ons may be drawn that are older than the use.
local HOLDER, MODE, REFS, RATE, NO_RATE, PRICING, POOL, LIMITS, MEASURES, REPEATS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local UNLIMITED, PREPAID, POSTPAID = 0, 1, 2
-- A program.
local DENY_REASON, DENY_STEP, STEPS, SERVICE, ACCOUNTS = 1, 2, 3, 4, 5
-- Kinds of operations.
local CHARGE, CONFIGURE, TOP_UP, SESSION = 1, 2, 3, 4
local REFUND, TRANSFER = 5, 7 -- the kinds of corrections, and those between
local LEASE = 8
local REFILL = 9
-- Modes of a charge.
local ONLINE, OFFLINE = 1, 2
-- Outcomes.
local CHARGED, REFUSED, REPEATED, REUSED, STALE, DONE, FAILED = 0, 1, 2, 3, 4, 5, 6
local SHORT = 7
-- Reasons, as in the contract.
local REASON = { BALANCE_DEPLETED = 1, NO_VALID_ADDON = 2, USAGE_LIMIT = 3, CREDIT_LIMIT = 4, NO_RATE = 8, ENDPOINT_BLOCKED = 11, AMOUNT_OUT_OF_RANGE = 27 }
-- Kinds of movements, as in the contract.
local FAILURE = { OVERFLOW = 5, SLICE_OVERFLOW = 10, NO_SUCH_BUCKET = 15 }
local MOVE = { GRANT = 1, TOPPED_UP = 3, EXPIRY = 4, REMOVAL = 5, ROLLED_OVER = 9, REFILLED = 10, LEASED = 11 }
-- A session. Its reservations hold until VALID_UNTIL; it is open until ENDS; LATE says whether its last call came after.
local SEQUENCE, SESSION_STATE, SESSION_HASH, SESSION_ANSWER, VALID_UNTIL, RESERVATIONS, ABOUT, COUNTS, ENDS, LATE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local OPEN, RELEASED, SESSION_EXPIRED = 1, 2, 3
-- Kinds of notices: what people want to hear of. Each goes with a value.
local NOTICE = {
  SHARE_USED = 1, USED_UP = 2, ENDED = 3, ACTIVATED = 4, RENEWED = 5, BLOCKED = 6, UNBLOCKED = 7, LIMIT_REACHED = 8,
  CREDIT_SHARE_USED = 9, CREDIT_USED_UP = 10,
}
local CLOSED_SESSION_KEPT_MS = 86400000
-- What a call is for: to decide, to say what would be decided, or what it would cost if money were no question.
local DECIDE, ENQUIRY = 0, 2
local PLACES, LINES_MAX = 65536, 8 -- places in a segment, and of an operation: one a line of a session's report
local CLOCK_SKEW_MAX_MS = 7200000 -- by which clocks of processes may differ, or be set back

-- The state of one call. Set anew at its beginning; nothing is kept between calls but programs, which never change.
local cell, now, holders, dirty, sessions, dirty_sessions, moves, op_index
local leases, dirty_leases
local place, purpose, refunds, dirty_refunds
local notices, fresh_programs, owing

local function key(kind, name)
  return cell .. kind .. name
end

local function holder(name)
  local found = holders[name]
  if found == nil then
    local blob = redis.call('GET', key('h:', name))
    found = blob and unpack_blob(blob) or false
    holders[name] = found
  end
  return found
end

local function move(name, bucket, kind, change)
  moves[#moves + 1] = { op_index, name, bucket, kind, change }
end

local function notice(name, bucket, kind, value)
  notices[#notices + 1] = { op_index, name, bucket, kind, value }
end

-- Prices that count ---------------------------------------------------------------------------------------------
--
-- A component has a cumulative price P of its count; a use that raises the count from V by q costs P(V + q) - P(V).
-- (A chunk of Lua has at most 200 local names: those of one section stand in a block of their own.)

local quote, dearest, lacking, counted, set_count, hold_count, give_back_count, falls, measured, used_of, IN_SESSION
do

local SESSIONS_COUNTED_MAX = 16
-- A pricing has components, with tiers, and caps; their fields have names, as `wire` in domain/pricing.py writes them.
IN_SESSION = -1
local IN_RECORD = 0
local METER_RECORDS, METER_COST = 2, 3
local TIERS_BY_VOLUME = 2
local UP, HALF_UP, HALF_EVEN = 1, 2, 4
local THROTTLE, REFUSE = 3, 4

-- Rounds an exact price of `whole` micros and rest / over, rest below over, to the component's unit.
local function rounded(part, whole, rest)
  local unit, over = part.unit, part.denominator
  if part.rounding == UP then
    return ceil((whole + (rest > 0 and 1 or 0)) / unit) * unit
  elseif part.rounding == HALF_UP then
    if unit == 1 then
      return whole + (2 * rest >= over and 1 or 0)
    end
    return floor((whole + unit / 2) / unit) * unit
  elseif part.rounding == HALF_EVEN then
    local steps = floor(whole / unit)
    local twice, exact = 2 * (whole - steps * unit), unit
    if unit == 1 then
      twice, exact, rest = 2 * rest, over, 0
    end
    local is_odd = steps % 2 == 1
    return (steps + ((twice > exact or (twice == exact and (rest > 0 or is_odd))) and 1 or 0)) * unit
  end
  return floor(whole / unit) * unit
end

-- The price of a count over the component's scope, or in one of its windows, and what becomes of use at its height. A count
-- of 0 is one of uses without volume: it costs what any use costs at least.
local function within_one(part, count)
  if count <= part.free and (count > 0 or part.free > 0 or part.minimum == 0 and part.lowest == 0) then
    return 0, 0
  end
  local over, tiers = part.denominator, part.tiers
  local blocks = ceil(max(count - part.free, part.minimum) / part.increment)
  local whole, rest, before, last = 0, 0, 0, nil
  for _, tier in ipairs(tiers) do
    local reach = (tier.blocks_max == 0 or blocks < tier.blocks_max) and blocks or tier.blocks_max
    if part.mode ~= TIERS_BY_VOLUME or reach == blocks then
      local inside = part.mode == TIERS_BY_VOLUME and blocks or reach - before
      local times = floor(inside / over)
      whole = whole + (inside > 0 and tier.flat or 0) + times * tier.numerator
      rest = rest + (inside - times * over) * tier.numerator
    end
    before, last = reach, tier
    if reach == blocks then
      break
    end
  end
  local carried = floor(rest / over)
  whole, rest = whole + carried, rest - carried * over
  if whole < part.lowest then
    whole, rest = part.lowest, 0
  end
  if part.highest >= 0 and whole >= part.highest then
    whole, rest = part.highest, 0
  end
  return rounded(part, whole, rest), last.action
end

-- How many windows are full below a count, where they hold only so much.
local function full_windows(most, count)
  return ceil(count / most) - 1
end

-- The price of a count: of full windows, if they hold only so much, and of what lies in the last.
local function cumulative(part, count)
  local most = part.window_most
  if not most or count <= most then
    return within_one(part, count)
  end
  local full = full_windows(most, count)
  local price, action = within_one(part, count - full * most)
  return price + full * within_one(part, most), action
end

-- The begin of the period that a use lies in. Windows are among the periods by minus how long they are: the use lies in
-- the one that began last by its time, if that reaches it; one that comes late in the next one, if that is nearer than it is
-- long; or else it begins one, when it was granted: `use.granted` says when what its session gave back for it was.
local function begin_of(counter, owner, period, use)
  local begin = use.periods[period]
  if begin >= 0 then
    return begin
  end
  local time, found = floor(use.time / 1000), holder(owner == '' and use.endpoint or owner)[COUNTERS][counter] or NOTHING
  local following = nil
  for index = 1, #found, 2 do
    if found[index] > time then
      following = found[index]
    elseif time < found[index] - begin then
      return found[index]
    end
  end
  if following and following + begin < time then
    return following
  end
  local granted = use.granted and use.granted['+' .. counter]
  return granted and granted <= time and time < granted - begin and granted or time
end

-- The period of what grants hold of a count; windows have one for all, since what is granted counts in the one of its use.
local function held_in(period, use)
  return max(0, use.periods[period])
end

-- Where a count stands, for the period that a use lies in (nil if nothing was counted yet), and, for who asks, what grants
-- may add to it.
function counted(counter, owner, period, use)
  local asks = use.is_grant or use.asks
  if period == IN_RECORD then
    return nil, 0
  elseif period == IN_SESSION then
    if use.session then
      return use.session[counter], asks and use.session['+' .. counter] or 0
    elseif use.session_ref == '' then
      return nil, 0
    end
    local found = holder(use.endpoint)[COUNTERS]['|' .. use.session_ref]
    return found and found[2][counter], 0
  end
  local counters = holder(owner == '' and use.endpoint or owner)[COUNTERS]
  local found, begin, count = counters[counter] or NOTHING, begin_of(counter, owner, period, use), nil
  for index = 1, #found, 2 do
    if found[index] == begin then
      count = found[index + 1]
      break
    end
  end
  local held = asks and counters['+' .. counter]
  return count, held and held[1] == held_in(period, use) and held[2] or 0
end

-- What grants have reserved for a part of a price.
local function reserved_for(part, use)
  local name = '=' .. part.counter .. ':' .. part.id
  if part.period == IN_SESSION then
    return use.session and use.session[name] or 0
  end
  local reserved = holder(part.owner == '' and use.endpoint or part.owner)[COUNTERS][name]
  return reserved and reserved[1] == held_in(part.period, use) and reserved[2] or 0
end

-- What counts of all that was used: nothing of nothing, else whole blocks, up to a most.
function measured(how, used)
  return used > 0 and min(ceil(max(used, how.minimum) / how.increment) * how.increment, how.maximum) or 0
end

-- What the session of a use, or its endpoint, has used of what is measured; nothing where each use is measured by itself.
function used_of(how, use)
  return how.counter ~= '' and counted(how.counter, '', how.period, use) or 0
end

-- Whether others may use of what is measured before what a grant is for is used: it then lies anywhere in a block.
local function lies_anywhere(each, use, used)
  return use.is_grant and each.period > 0 and used > 0
end

-- What a use is, as a part counts it, before it is measured.
local function metered(part, quantity, use)
  return part.meter == METER_RECORDS and 1 or part.meter == METER_COST and use.cost or quantity
end

-- By how much a use raises what a part counts; a grant, by how much at most.
local function more_of(part, quantity, use)
  local each, more = part.each, metered(part, quantity, use)
  if not each then
    return more
  end
  local used = used_of(each, use)
  local before = measured(each, used)
  if lies_anywhere(each, use, used) then
    return min(ceil(more / each.increment) * each.increment, max(0, each.maximum - before))
  end
  return measured(each, used + more) - before
end

-- What was priced so far: nothing, if nothing was counted.
local function price_before(part, stands, count)
  if count == 0 and not stands then
    return 0
  end
  return (cumulative(part, count))
end

-- Notes what a grant may add to a count (a `mark` of `+` and its name), or what it reserved for a part of a price (`=`),
-- until it is given back; returns what is to be kept of it with the grant, and when the window ends that it is for.
function hold_count(mark, counter, owner, period, more, use)
  if period == IN_SESSION then
    use.session[mark] = (use.session[mark] or 0) + more
    return '', { mark, 0, more }
  end
  local name, begin = owner == '' and use.endpoint or owner, held_in(period, use)
  local counters, length = holder(name)[COUNTERS], -use.periods[period]
  local held = counters[mark]
  counters[mark] = { begin, more + (held and held[1] == begin and held[2] or 0) }
  dirty[name] = true
  if length < 0 then
    return name, { mark, begin, more }
  end
  return name, { mark, begin, more, floor(use.time / 1000) }, (begin_of(counter, owner, period, use) + length) * 1000
end

function give_back_count(name, kept, session_counts)
  local counter, begin, more = kept[1], kept[2], kept[3]
  if name == '' then
    local left = (session_counts[counter] or 0) - more
    session_counts[counter] = left ~= 0 and left or nil
    return
  end
  local payer = holder(name)
  local held = payer and payer[COUNTERS][counter]
  if held and held[1] == begin then
    held[2] = held[2] - more
    if held[2] == 0 then
      payer[COUNTERS][counter] = nil
    end
    dirty[name] = true
  end
end

-- The counts of a session of events; of many sessions, those last used are kept.
local function counts_of_session(counters, name, time)
  if not counters[name] then
    local sessions_counted, oldest = 0, nil
    for other, found in pairs(counters) do
      if string.sub(other, 1, 1) == '|' then
        sessions_counted = sessions_counted + 1
        if not oldest or found[1] < counters[oldest][1] or (found[1] == counters[oldest][1] and other < oldest) then
          oldest = other
        end
      end
    end
    if sessions_counted >= SESSIONS_COUNTED_MAX then
      counters[oldest] = nil
    end
    counters[name] = { time, {} }
  end
  counters[name][1] = max(time, counters[name][1])
  return counters[name][2]
end

-- Of windows that hold only so much (`most`) the last one is kept: what is more than one holds began it.
function set_count(counter, owner, period, count, use, most)
  if period == IN_SESSION then
    if use.session then
      use.session[counter] = count
    elseif use.session_ref ~= '' then
      local counters = holder(use.endpoint)[COUNTERS]
      counts_of_session(counters, '|' .. use.session_ref, floor(use.time / 1000))[counter] = count
      dirty[use.endpoint] = true
    end
    return
  end
  local name = owner == '' and use.endpoint or owner
  local counters, begin = holder(name)[COUNTERS], begin_of(counter, owner, period, use)
  local found, at = counters[counter] or {}, 1
  counters[counter] = found
  if most and count > most then
    count = count - full_windows(most, count) * most
    for index = 1, #found, 2 do
      if found[index] == begin then
        table.remove(found, index)
        table.remove(found, index)
        break
      end
    end
    begin = max(begin, floor(use.time / 1000))
  end
  while found[at] and found[at] > begin do
    at = at + 2
  end
  if found[at] ~= begin then
    table.insert(found, at, begin)
    table.insert(found, at + 1, count)
  end
  found[at + 1] = count
  while #found > 4 and (#found > 2 * PERIODS_KEPT or found[1] - found[#found - 1] > PERIODS_KEPT_S) do
    found[#found], found[#found - 1] = nil, nil
  end
  dirty[name] = true
end

-- What a use of `quantity` units costs: amount, counts to set, whether it is to be slowed down, why it may not pass.
function quote(pricing, quantity, use)
  local amount, counts, throttled, refused = 0, {}, false, nil
  for _, part in ipairs(pricing.components) do
    local stands, held = counted(part.counter, part.owner, part.period, use)
    local before = (stands or 0) + (use.is_grant and held or 0)
    local count = before + more_of(part, quantity, use)
    local price, action = cumulative(part, count)
    amount = amount + price - price_before(part, stands, before)
    if use.asks and held > 0 and action ~= REFUSE then -- what was granted is to pass, too
      local _, later = cumulative(part, count + held)
      action = later == REFUSE and REFUSE or action
    end
    throttled = throttled or action == THROTTLE
    if action == REFUSE then
      refused = REASON.USAGE_LIMIT
    end
    if part.meter == METER_COST and use.cost < 0 then
      return 0, counts, false, REASON.NO_RATE
    elseif price > EXACT_MAX or count > EXACT_MAX or amount > EXACT_MAX then
      return max(amount, 0), counts, false, REASON.AMOUNT_OUT_OF_RANGE
    end
    if part.period ~= IN_RECORD then
      counts[#counts + 1] = { part.counter, part.owner, part.period, count, count - before, false, part.id, false, part.window_most }
    end
    if part.each and part.each.counter ~= '' and not use.is_grant then
      local each, more = part.each, metered(part, quantity, use)
      counts[#counts + 1] = { each.counter, '', each.period, used_of(each, use) + more, more }
    end
  end
  for _, cap in ipairs(pricing.caps) do
    local stands, held = counted(cap.counter, cap.owner, cap.period, use)
    local before = (stands or 0) + (use.is_grant and held or 0)
    local count = before + amount
    if count > EXACT_MAX then
      return 0, counts, false, REASON.AMOUNT_OUT_OF_RANGE
    end
    amount = min(count, cap.amount) - min(before, cap.amount)
    throttled = throttled or count > cap.amount and cap.action == THROTTLE
    if cap.action == REFUSE then
      local held_back = use.asks and held + lacking(pricing, quantity, use) or 0 -- what was granted has become dearer
      refused = count + held_back > cap.amount and REASON.USAGE_LIMIT or refused
    end
    counts[#counts + 1] = { cap.counter, cap.owner, cap.period, count, count - before }
  end
  return amount, counts, throttled, refused
end

-- The counts between `first` and `last` from which a use of `more` may be dearest: it begins where the free units or a
-- tier end, or ends there.
local function heights(part, first, last, more)
  local found, every = { first, last }, part.window_most
  local function note(height)
    if every then -- the first of those that lie as far in a window
      height = height + (floor((first - height) / every) + 1) * every
    end
    found[#found + 1] = height > first and height < last and height or nil
  end
  local function add(ends)
    note(ends - more)
    note(ends + 1 - more)
    note(ends)
  end
  if first < last then
    add(part.free)
    if every then
      add(every)
    end
    for _, tier in ipairs(part.tiers) do
      if tier.blocks_max > 0 then
        add(part.free + tier.blocks_max * part.increment)
      end
    end
  end
  return found
end

-- What open grants lack, beside what they have reserved, if a use of `quantity` units comes before them; for a grant,
-- which comes behind them, of what was used. What raises a count raises the price of what was granted before.
function lacking(pricing, quantity, use)
  local lacks = 0
  for _, part in ipairs(pricing.components) do
    local stands, held = counted(part.counter, part.owner, part.period, use)
    if held > 0 then
      local first, price = stands or 0, nil
      if use.is_grant then
        price = price_before(part, stands, first)
      else
        first = first + more_of(part, quantity, use)
        price = cumulative(part, first)
      end
      local most = price
      for _, height in ipairs(heights(part, first, first + held, 0)) do
        most = max(most, (cumulative(part, height)))
      end
      lacks = lacks + max(0, most - price - reserved_for(part, use))
    end
  end
  return lacks
end

-- The most that a use of `quantity` units may cost, however much of what other grants hold is used before it; notes what
-- of it is for each part.
function dearest(pricing, quantity, use)
  local amount = 0
  use.mosts = {}
  for _, part in ipairs(pricing.components) do
    local stands, held = counted(part.counter, part.owner, part.period, use)
    local more = more_of(part, quantity, use)
    local most = -EXACT_MAX
    local first = stands or 0
    for _, height in ipairs(heights(part, first, first + held, more)) do
      local price = cumulative(part, height + more)
      most = max(most, price - price_before(part, stands, height))
    end
    amount = amount + most
    use.mosts[part.id] = most
  end
  for _, cap in ipairs(pricing.caps) do
    local stands = counted(cap.counter, cap.owner, cap.period, use) or 0
    amount = min(stands + amount, cap.amount) - min(stands, cap.amount)
  end
  return amount
end

-- The largest volume that raises a count by `more` at most; 0 if none does.
local function most_measured(each, more, use)
  local used = used_of(each, use)
  local before = measured(each, used)
  if more >= each.maximum - before then
    return EXACT_MAX
  elseif lies_anywhere(each, use, used) then
    return floor(more / each.increment) * each.increment
  end
  local reach = floor((more + before) / each.increment) * each.increment
  return reach < each.minimum and 0 or reach - used
end

-- The volumes below `quantity` after which the price of a use may fall: the ends of tiers that price all of the count.
-- Between them a larger volume never costs less. `quantity` itself is the last.
function falls(pricing, quantity, use)
  local found = { quantity }
  for _, part in ipairs(pricing.components) do
    if part.mode == TIERS_BY_VOLUME and part.meter ~= METER_RECORDS and part.meter ~= METER_COST then
      local before, held = counted(part.counter, part.owner, part.period, use)
      for _, tier in ipairs(part.tiers) do
        local ends = part.free + tier.blocks_max * part.increment - (before or 0)
        for _, last in ipairs(tier.blocks_max > 0 and { ends, ends - held } or NOTHING) do
          last = part.each and most_measured(part.each, last, use) or last
          if last > 0 and last < quantity then
            found[#found + 1] = last
          end
        end
      end
    end
  end
  table.sort(found)
  return found
end

end

-- Buckets -------------------------------------------------------------------------------------------------------

local available, refresh, refresh_all, supply, notice_use, present_end, final_end, cycles_until, note_short, lessen, came_back, pay_short
do
local ON_EXPIRY, ON_EXHAUSTION = 1, 2
local USUAL_SHARES = { 80 }
local SUPPLY_MAX = 4503599627370496 -- 2^52: what a bucket without end of renewals counts for

local function may_renew(bucket, on)
  local renewal = bucket[RENEWAL]
  local waits = on == ON_EXPIRY and bucket[STATE] == PENDING -- what nobody used ends with its assignment
  return renewal and renewal.on >= on and not waits and (renewal.most == 0 or renewal.number < renewal.most)
end

-- What a bucket can still give: what nobody has reserved, and the occurrences that its exhaustion would begin.
function available(bucket)
  local free = bucket[REMAINING] - bucket[RESERVED]
  if bucket[RENEWAL] and may_renew(bucket, ON_EXHAUSTION) then
    local renewal = bucket[RENEWAL]
    local left = renewal.most == 0 and EXACT_MAX or renewal.most - renewal.number
    return min(SUPPLY_MAX, free + left * renewal.quantity)
  end
  return free
end

-- When there will be nothing of it any more; 0 if it never ends, or is filled again.
function final_end(bucket)
  local cycles = bucket[CYCLES]
  local goes_on = #cycles > 0 and cycles[#cycles] > bucket[EXPIRES] or may_renew(bucket, ON_EXPIRY)
  return goes_on and 0 or bucket[EXPIRES]
end

-- Those of some boundaries of cycles that lie before an end, and the end.
function cycles_until(cycles, ends)
  if not cycles[1] or cycles[#cycles] <= ends then
    return cycles
  end
  local kept = {}
  for _, boundary in ipairs(cycles) do
    if boundary < ends then
      kept[#kept + 1] = boundary
    end
  end
  kept[#kept + 1] = ends
  return kept
end

-- Fills a bucket anew. What sessions have reserved they now have of the new volume.
local function fill(name, bucket, quantity, ends)
  bucket[REMAINING], bucket[GRANTED], bucket[EXPIRES] = quantity, quantity, ends
  bucket[STATE] = bucket[STATE] == PENDING and PENDING or ACTIVE
  bucket[RESERVED], bucket[FILLED] = min(bucket[RESERVED], quantity), place
  if bucket[RENEWAL] then
    bucket[RENEWAL].short = nil
  end
  move(name, bucket[ID], MOVE.GRANT, quantity)
end

-- Notes what was left at an end. What waits for its first use has nothing that a late use could have drawn.
local function note_former(bucket, ends, rest)
  if bucket[STATE] ~= PENDING then
    local former = bucket[FORMER] or NOTHING
    bucket[RENEWAL], bucket[TOLD] = bucket[RENEWAL] or false, bucket[TOLD] or false
    bucket[FORMER] = { ends, rest, former[1], former[2] }
  end
end

local function lose_rest(name, bucket)
  if bucket[REMAINING] > 0 then
    move(name, bucket[ID], MOVE.EXPIRY, -bucket[REMAINING])
    notice(name, bucket[ID], NOTICE.ENDED, bucket[REMAINING])
    bucket[REMAINING] = 0
  end
end

local function end_for_good(name, bucket)
  if bucket[STATE] == DEPLETED then
    notice(name, bucket[ID], NOTICE.ENDED, 0)
  end
  bucket[STATE], bucket[RESERVED] = EXPIRED, 0
end

-- When the present occurrence would end by itself, whenever its assignment does; 0 never, or if it waits for its first use.
local function own_end(bucket)
  if bucket[STATE] == PENDING or bucket[VALIDITY] == 0 then
    return 0
  end
  local ends = bucket[RENEWAL].ends
  return ends and ends ~= 0 and ends or bucket[ACTIVATED] + bucket[VALIDITY]
end

-- The end of an occurrence that would end by itself at `ends`; that is kept, since the end of its assignment may move.
local function within_last_end(bucket, ends)
  local last = bucket[RENEWAL].last_end
  bucket[RENEWAL].ends = ends
  return last == 0 and ends or ends == 0 and last or min(ends, last)
end

-- When the present occurrence ends, by itself or with its assignment.
function present_end(bucket)
  return within_last_end(bucket, own_end(bucket))
end

-- The occurrence that a moment lies in begins where the one before ended. Those between, of which nobody asked for
-- anything, count, but leave no entries: what they granted they lost, but for use of the last of them that is told late.
local function renew_after_end(name, bucket, time)
  local renewal, validity = bucket[RENEWAL], bucket[VALIDITY]
  local last_end, left = renewal.last_end, renewal.most > 0 and renewal.most - renewal.number or EXACT_MAX
  local periods = validity > 0 and floor((time - bucket[EXPIRES]) / validity) + 1 or 0
  local over = validity == 0 or last_end ~= 0 and time >= last_end or periods > left
  local passed = over and min(periods, left) or periods - 1
  local ended = bucket[EXPIRES] + passed * validity
  if over and last_end ~= 0 and ended > last_end then
    ended = last_end
    passed = ceil((last_end - bucket[EXPIRES]) / validity)
  end
  if passed > 0 then
    note_former(bucket, ended, renewal.quantity)
    renewal.number, bucket[EXPIRES] = renewal.number + passed, ended
  end
  if over then
    end_for_good(name, bucket)
    return
  end
  renewal.number = renewal.number + 1
  fill(name, bucket, renewal.quantity, within_last_end(bucket, ended + validity))
  notice(name, bucket[ID], NOTICE.RENEWED, renewal.number)
end

local function ends_before(a, b)
  return a[EXPIRES] < b[EXPIRES]
end

-- Makes room at a boundary for what rolls over: beyond what rests may hold together the oldest lose first, but for what
-- sessions have reserved of them. Returns how much of it finds room.
local function make_room(name, payer, bucket, boundary)
  local most, older = bucket[RENEWAL].rests_most, {}
  if not most then
    return bucket[REMAINING]
  end
  local rest = min(bucket[REMAINING], most)
  local excess = rest - most
  for _, other in ipairs(payer[BUCKETS]) do
    local is_older = other[VALIDITY] < 0 and other[EXPIRES] > boundary and other[STATE] ~= EXPIRED
    if is_older and string.match(other[ID], '^[^~]*') == bucket[ID] then
      older[#older + 1] = other
      excess = excess + other[REMAINING]
    end
  end
  table.sort(older, ends_before)
  for _, other in ipairs(older) do
    local less = min(excess, other[REMAINING] - other[RESERVED])
    if less > 0 then
      other[REMAINING], excess = other[REMAINING] - less, excess - less
      other[STATE] = other[REMAINING] == 0 and DEPLETED or other[STATE]
      move(name, other[ID], MOVE.EXPIRY, -less)
      notice(name, other[ID], NOTICE.ENDED, less)
    end
  end
  return rest - max(0, excess)
end

-- At each boundary that has passed, what is left becomes a bucket of its own for some cycles.
local function roll_over(name, payer, bucket, time)
  local bounds, at = { bucket[EXPIRES] }, 1
  for _, boundary in ipairs(bucket[CYCLES]) do
    if boundary > bucket[EXPIRES] then
      bounds[#bounds + 1] = boundary
    end
  end
  while bounds[at] and bounds[at] <= time do
    local ends = bounds[at + bucket[RENEWAL].cycles]
    local rest = ends and ends > time and make_room(name, payer, bucket, bounds[at]) or 0
    if rest > 0 then
      local id = bucket[ID] .. '~' .. string.format('%d', floor(bounds[at] / 1000))
      move(name, bucket[ID], MOVE.ROLLED_OVER, -rest)
      move(name, id, MOVE.ROLLED_OVER, rest)
      payer[BUCKETS][#payer[BUCKETS] + 1] = { id, bucket[REF], bucket[PRIORITY], bucket[ROLE], rest, 0, rest, ACTIVE,
        bucket[ACTIVATED], ends, -(bucket[RENEWAL].order or 1), {}, bucket[UNIT], place }
      bucket[REMAINING] = bucket[REMAINING] - rest
    end
    note_former(bucket, bounds[at], bucket[REMAINING])
    lose_rest(name, bucket)
    at = at + 1
    if bounds[at] then
      fill(name, bucket, bucket[RENEWAL].quantity, bounds[at])
    else
      bucket[REMAINING] = 0
      end_for_good(name, bucket)
    end
  end
end

-- Expiry, re-subscription and the roll-over to a new cycle happen here, when somebody looks, so nothing runs at
-- midnight.
function refresh(name, payer, bucket, time)
  if bucket[EXPIRES] == 0 or time < bucket[EXPIRES] or bucket[STATE] == EXPIRED then
    return false
  end
  local renewal = bucket[RENEWAL]
  if renewal and renewal.cycles > 0 then
    roll_over(name, payer, bucket, time)
    return true
  end
  note_former(bucket, bucket[EXPIRES], bucket[REMAINING])
  lose_rest(name, bucket)
  if may_renew(bucket, ON_EXPIRY) then
    renew_after_end(name, bucket, time)
    return true
  end
  local whole, last, following = renewal and renewal.quantity or bucket[GRANTED], bucket[EXPIRES], nil
  for _, boundary in ipairs(bucket[CYCLES]) do
    if boundary > time then
      following = boundary
      break
    end
    last = max(last, boundary)
  end
  if last > bucket[EXPIRES] then
    note_former(bucket, last, whole) -- of a cycle of which nobody asked for anything
    bucket[EXPIRES] = last
  end
  if following then
    fill(name, bucket, whole, following)
  else
    end_for_good(name, bucket)
  end
  return true
end

-- Refreshes buckets (`refs` nil: all); drops rests of former cycles some time after they ended: until then late use draws on
-- them, and before their end a refund may fill them.
function refresh_all(name, payer, refs, time)
  local buckets, changed = payer[BUCKETS], false
  for index = 1, #buckets do -- those that roll over on the way come behind
    local bucket = buckets[index]
    if (refs == nil or refs[bucket[REF]]) and refresh(name, payer, bucket, time) then
      changed = true
    end
  end
  if not changed then
    return
  end
  dirty[name] = true
  local kept = {}
  for _, bucket in ipairs(buckets) do
    if bucket[VALIDITY] >= 0 or bucket[STATE] ~= EXPIRED or bucket[EXPIRES] > time - PERIODS_KEPT_S * 1000 then
      kept[#kept + 1] = bucket
    end
  end
  payer[BUCKETS] = kept
end

function note_short(bucket, short)
  bucket[RENEWAL].short = short > 0 and short or nil
end

-- Takes off a bucket what nobody has reserved of a volume; returns the rest of the volume.
function lessen(name, bucket, quantity)
  local less = max(0, min(quantity, bucket[REMAINING] - bucket[RESERVED]))
  if less > 0 then
    bucket[REMAINING] = bucket[REMAINING] - less
    move(name, bucket[ID], MOVE.REMOVAL, -less)
    bucket[STATE] = bucket[REMAINING] == 0 and DEPLETED or bucket[STATE]
    dirty[name] = true
  end
  return quantity - less
end

-- Something came back to a bucket. Once the operation is done, it pays first for what members of its pool took along.
function came_back(name, bucket)
  if bucket[RENEWAL] and bucket[RENEWAL].short then
    owing[#owing + 1] = { name, bucket }
  end
end

function pay_short()
  for _, each in ipairs(owing) do
    local name, bucket = each[1], each[2]
    note_short(bucket, lessen(name, bucket, bucket[RENEWAL].short or 0))
  end
  owing = {}
end

-- Begins as many occurrences of a bucket as it needs to give `take` of what nobody has reserved. Reserving does not
-- activate: of what waits for its first use, that sets the end.
function supply(name, bucket, take, time)
  local short = take - (bucket[REMAINING] - bucket[RESERVED])
  if short <= 0 then
    return
  end
  local renewal = bucket[RENEWAL]
  local times = ceil(short / renewal.quantity)
  bucket[REMAINING], bucket[GRANTED] = bucket[REMAINING] + times * renewal.quantity, renewal.quantity
  renewal.number = renewal.number + times
  if bucket[STATE] ~= PENDING then
    bucket[STATE] = ACTIVE
    if bucket[VALIDITY] > 0 then
      bucket[EXPIRES] = within_last_end(bucket, max(own_end(bucket), time + bucket[VALIDITY]))
    end
  end
  move(name, bucket[ID], MOVE.GRANT, times * renewal.quantity)
  notice(name, bucket[ID], NOTICE.RENEWED, renewal.number)
end

-- Says which shares of what a bucket was filled with are used up now and were not before.
function notice_use(name, bucket, before)
  local after, granted = bucket[REMAINING], bucket[GRANTED]
  local shares = bucket[RENEWAL] and bucket[RENEWAL].shares or USUAL_SHARES
  if shares == USUAL_SHARES and after > granted / 4 then
    return -- far from four fifths
  end
  for _, percent in ipairs(shares) do
    local left = floor(granted / 100) * (100 - percent) + floor(granted % 100 * (100 - percent) / 100)
    if before > left and after <= left then
      notice(name, bucket[ID], NOTICE.SHARE_USED, percent)
    end
  end
  if after == 0 then
    notice(name, bucket[ID], NOTICE.USED_UP, granted)
  end
end

end

-- Which buckets a step may draw, in their order ------------------------------------------------------------------

local eligible
do

local function rank(bucket)
  if bucket[ROLE] == ROLE_BASE then
    return 4
  elseif bucket[ROLE] == ROLE_POOL then
    return 3
  end
  return bucket[STATE] == PENDING and 2 or 1
end

-- Where a rest stands by its order, and what is none, in a row of one priority.
local PRESENT_PLACE, NEWEST_FIRST_PLACE = 3, 2
local PLACE_OF_REST = { [-1] = 1, [-2] = NEWEST_FIRST_PLACE, [-3] = 4 }

-- Add-ons, then the pool, then base benefits; active before not yet activated add-ons; then priority, rests of former
-- cycles as their plan says, earliest end, earliest activation, id: total and deterministic.
local function drawn_before(a, b)
  local rank_a, rank_b = rank(a), rank(b)
  if rank_a ~= rank_b then
    return rank_a < rank_b
  end
  if a[PRIORITY] ~= b[PRIORITY] then
    return a[PRIORITY] < b[PRIORITY]
  end
  local place_a, place_b = PLACE_OF_REST[a[VALIDITY]] or PRESENT_PLACE, PLACE_OF_REST[b[VALIDITY]] or PRESENT_PLACE
  if place_a ~= place_b then
    return place_a < place_b
  end
  if place_a == NEWEST_FIRST_PLACE and a[EXPIRES] ~= b[EXPIRES] then
    return a[EXPIRES] > b[EXPIRES]
  end
  if a[EXPIRES] ~= b[EXPIRES] then
    return b[EXPIRES] == 0 or (a[EXPIRES] ~= 0 and a[EXPIRES] < b[EXPIRES])
  end
  if a[ACTIVATED] ~= b[ACTIVATED] then
    return a[ACTIVATED] < b[ACTIVATED]
  end
  return a[ID] < b[ID]
end

local function has_ended(buckets, time)
  for index = 1, #buckets do
    local ends = buckets[index][EXPIRES]
    if ends ~= 0 and ends <= time and buckets[index][STATE] ~= EXPIRED then
      return true
    end
  end
  return false
end

-- Where what was left at an end is, for a use from before that end; nil for one that is not late.
local function former_place(former, time)
  local found = nil
  for at = 1, #former, 2 do
    found = time < former[at] and at + 1 or found
  end
  return found
end

-- Whether a bucket is of an add-on that was given, or used first, after a use, though clocks differ.
local CLOCKS_DIFFER_MS = 60000
local function is_younger(bucket, time)
  local is_addon = bucket[ROLE] ~= ROLE_BASE and not (bucket[RENEWAL] and bucket[RENEWAL].team)
  return is_addon and time < bucket[ACTIVATED] - CLOCKS_DIFFER_MS
end

-- Adds draws of nothing yet: {bucket, how much, holder that it is of, what there is, place in FORMER if that is what there
-- is}. A grant is for what comes, also where this clock is behind the one by which the bucket ended.
local function add_eligible(found, name, payer, step, use)
  local time, refs = use.time, step[REFS]
  if has_ended(payer[BUCKETS], time) then
    refresh_all(name, payer, refs, time)
  end
  local buckets = payer[BUCKETS]
  for index = 1, #buckets do
    local bucket = buckets[index]
    if refs[bucket[REF]] and not (step[REPEATS] and is_younger(bucket, time)) then
      local place_of_rest = bucket[FORMER] and not use.is_grant and former_place(bucket[FORMER], time)
      local free = 0
      if place_of_rest then -- but not to uses from before a base plan that was replaced
        local is_before = bucket[TOLD] and bucket[ROLE] == ROLE_BASE and time < bucket[ACTIVATED]
        free = is_before and 0 or bucket[FORMER][place_of_rest]
      elseif bucket[STATE] ~= EXPIRED then
        free = available(bucket)
      end
      if free > 0 then
        found[#found + 1] = { bucket, 0, name, free, place_of_rest }
      end
    end
  end
end

local function entry_before(a, b)
  return drawn_before(a[1], b[1])
end

function eligible(step, name, payer, use)
  local found = {}
  if payer then
    add_eligible(found, name, payer, step, use)
  end
  if step[POOL] then
    add_eligible(found, step[POOL], holder(step[POOL]), step, use)
  end
  if found[2] then
    table.sort(found, entry_before)
  end
  return found
end

end

-- What a step can cover of a volume. DRAWS are {bucket, how much, holder that it is of}; the rest is there only if it is
-- something: why not all is covered, counts, whether it is slowed down.
-- LACKS is what open grants lack if it is used. What is told of a step in the end is all up to the draws, and, if something was
-- counted, {counter, where it stood, how much more, ...}.
local BENEFIT, RATED, UNCOVERED, AMOUNT, DRAWS, WHY, COUNTED, SLOWED, LACKS = 1, 2, 3, 4, 5, 6, 7, 8, 9

local cover, cover_allowed, draw
do

-- A rate.
local INCREMENT, MINIMUM, NUMERATOR, DENOMINATOR = 1, 2, 3, 4
-- What a draw says of itself, added up.
local DRAW_ACTIVATED, DRAW_OF_POOL, DRAW_OF_MONEY, DRAW_LATE = 1, 2, 4, 8

-- Rounded up once, to whole micros. A published tariff keeps numerator * denominator below 2^53.
local function price_of_blocks(rate, blocks)
  local numerator, denominator = rate[NUMERATOR], rate[DENOMINATOR]
  local whole = floor(blocks / denominator)
  local product = (blocks - whole * denominator) * numerator
  return whole * numerator + ceil(product / denominator)
end

local function blocks_of(rate, quantity)
  if quantity < rate[MINIMUM] then
    quantity = rate[MINIMUM]
  end
  return ceil(quantity / rate[INCREMENT])
end

-- The largest part of `quantity` whose price is within `money`.
local function affordable(rate, quantity, money)
  local low, high = 0, blocks_of(rate, quantity)
  while low < high do
    local middle = ceil((low + high) / 2)
    if price_of_blocks(rate, middle) <= money then
      low = middle
    else
      high = middle - 1
    end
  end
  if low * rate[INCREMENT] < rate[MINIMUM] then
    return 0
  end
  return min(quantity, low * rate[INCREMENT])
end

local function headroom_of(step, payer)
  if purpose == ENQUIRY then
    return EXACT_MAX
  elseif step[MODE] == PREPAID then
    return payer[MONEY] - payer[MONEY_RESERVED]
  elseif step[MODE] == POSTPAID then
    return payer[LIMIT] - payer[USED] - payer[USED_RESERVED]
  end
  return EXACT_MAX
end

-- Why an amount above a headroom is not covered: without a bound it is more than is counted exactly.
local function lacks_money(step, headroom)
  if headroom >= EXACT_MAX then
    return REASON.AMOUNT_OUT_OF_RANGE
  end
  return step[MODE] == POSTPAID and REASON.CREDIT_LIMIT or REASON.BALANCE_DEPLETED
end

-- The amount of the simple price of a volume, as `quote` gives it of the others.
local function simple_quote(rate, quantity)
  local amount = price_of_blocks(rate, blocks_of(rate, quantity))
  return amount, NOTHING, false, amount > EXACT_MAX and REASON.AMOUNT_OUT_OF_RANGE or nil
end

-- The largest volume from `low` to `high` that fits, if the lower ones do.
local function highest(fits, low, high)
  while low < high do
    local middle = ceil((low + high) / 2)
    if fits(middle) then
      low = middle
    else
      high = middle - 1
    end
  end
  return low
end

-- Notes with the counts of a grant what it reserves for each part of its price: that of the dearest volume up to it.
local function note_reserved(pricing, counts, stretches, rated, use)
  for _, ends in ipairs(stretches) do
    dearest(pricing, min(ends, rated), use)
    for _, count in ipairs(counts) do
      count[8] = count[7] and max(count[8] or 0, use.mosts[count[7]])
    end
    if ends >= rated then
      return
    end
  end
end

-- Prices the largest part of what no volume covers that may pass and can be paid; buckets of money pay first. Of a grant
-- less may be used than is granted, so each smaller volume must fit, too, and the dearest of them is its amount.
local function cover_rated(coverage, step, payer, left, wallets, use, pricing)
  local lacks = pricing and use.is_grant and lacking(pricing, 0, use) or 0
  local headroom = max(0, headroom_of(step, payer) - lacks) -- more may be owed than a limit that was lowered
  for _, entry in ipairs(wallets) do
    headroom = headroom + entry[4]
  end
  local function priced(quantity)
    if not pricing then
      return simple_quote(step[RATE], quantity)
    end
    local amount, counts, throttled, refused = quote(pricing, quantity, use)
    if use.is_grant and not refused then
      amount = max(amount, dearest(pricing, quantity, use))
    end
    return amount, counts, throttled, refused
  end
  local why
  local function fits(quantity)
    local price, _, _, refused = priced(quantity)
    local dues = pricing and use.asks and lacking(pricing, quantity, use) or 0
    lacks = use.asks and dues or lacks
    local is_dear = (price > 0 or dues > 0) and price + dues > headroom
    if refused or is_dear then
      local is_beyond = is_dear and (not refused or refused == REASON.AMOUNT_OUT_OF_RANGE)
      why = is_beyond and lacks_money(step, headroom) or refused
      return false
    end
    return true, price
  end
  local rated, most, passes = left, 0, true -- a use without volume passes whole or not at all
  local stretches = use.is_grant and (pricing and falls(pricing, left, use) or { left })
  if left == 0 then
    passes = fits(0)
  elseif use.is_grant then
    rated = 0
    for _, ends in ipairs(stretches) do
      local ends_fit, price = fits(ends)
      if not ends_fit then
        local ends_why = why
        rated = fits(rated + 1) and highest(fits, rated + 1, ends - 1) or rated
        why = ends_why
        break
      end
      rated, most = ends, max(most, price)
    end
  elseif not fits(left) then
    local bounds, whole_why = pricing and falls(pricing, left, use) or { left }, why
    rated = 0
    for index = #bounds, 1, -1 do
      local first = (bounds[index - 1] or 0) + 1
      if fits(first) then
        rated = highest(fits, first, bounds[index])
        break
      end
    end
    why = whole_why
  end
  coverage[WHY] = (rated < left or not passes) and why or nil
  local amount, counts, throttled = 0, NOTHING, false
  if rated > 0 or (left == 0 and passes) then
    amount, counts, throttled = priced(rated)
    amount = use.is_grant and max(amount, most) or amount
  end
  local draws = coverage[DRAWS]
  for _, entry in ipairs(wallets) do
    entry[2] = min(amount, entry[4])
    if entry[2] > 0 then
      draws[#draws + 1] = entry
      amount = amount - entry[2]
    end
  end
  coverage[RATED], coverage[UNCOVERED], coverage[AMOUNT] = rated, left - rated, amount
  coverage[COUNTED], coverage[SLOWED], coverage[LACKS] = counts, throttled, lacks
  if use.is_grant and pricing and counts[1] then
    note_reserved(pricing, counts, stretches, rated, use)
  end
end

-- What the uses of a session, or of one record, have used of what a measure says how to draw, and what was drawn for that:
-- {measure, used, drawn, used before}.
local function run_of(runs, number, step, use)
  local run = runs[number]
  if not run then
    local how = step[MEASURES][number]
    local used = used_of(how, use)
    run = { how, used, used > 0 and counted('^' .. how.counter, '', IN_SESSION, use) or 0, used }
    runs[number] = run
  end
  return run
end

-- How much of a volume some drawn units pay: floor(drawn * per / weight) without leaving the exact range.
local function paid_by(how, drawn)
  local times = floor(drawn / how.drawn)
  return times * how.per + floor((drawn - times * how.drawn) * how.per / how.drawn)
end

-- What has to be drawn for all that was used.
local function owed_for(how, used)
  local volume = measured(how, used)
  local times = floor(volume / how.per)
  return times * how.drawn + ceil((volume - times * how.per) * how.drawn / how.per)
end

-- Covers what it can of a volume with what was drawn already, the rest of a block, and with `free` units more: whole
-- blocks, the last of them as far as those go. Returns how much that is, and how many units it takes.
local function cover_with(run, left, free)
  local how = run[1]
  local covered = max(0, min(left, paid_by(how, run[3] + free) - run[2]))
  local taken = covered > 0 and max(0, min(free, owed_for(how, run[2] + covered) - run[3])) or 0
  run[2], run[3] = run[2] + covered, run[3] + taken
  return covered, taken
end

-- Covers what it can of a volume with what a session has drawn already. Returns what is left.
local function cover_with_rests(step, left, runs, use)
  for number, how in ipairs(step[MEASURES]) do
    if how.counter ~= '' and left > 0 then
      left = left - cover_with(run_of(runs, number, step, use), left, 0)
    end
  end
  return left
end

-- Notes with what a step covers what its session has now used and drawn.
local function count_runs(coverage, runs)
  local counts = { unpack(coverage[COUNTED] or NOTHING) }
  for _, run in pairs(runs) do
    local counter, more = run[1].counter, run[2] - run[4]
    if counter ~= '' and more > 0 then
      counts[#counts + 1] = { counter, '', IN_SESSION, run[2], more }
      counts[#counts + 1] = { '^' .. counter, '', IN_SESSION, run[3], 0 }
    end
  end
  coverage[COUNTED] = counts[1] and counts or nil
end

-- The fees of a use of which benefits cover all that is covered. A grant that cannot pay them is none.
local function cover_fees(coverage, step, payer, wallets, use)
  local uncovered, why = coverage[UNCOVERED], coverage[WHY]
  cover_rated(coverage, step, payer, 0, wallets, use, step[PRICING].fees)
  coverage[UNCOVERED], coverage[WHY] = uncovered, why or coverage[WHY]
  if use.is_grant and coverage[WHY] then
    coverage[BENEFIT], coverage[DRAWS], coverage[UNCOVERED] = 0, NOTHING, coverage[BENEFIT]
  end
end

-- Prices what no volume covers, as far as it can be paid.
local function cover_left(coverage, step, payer, wallets, is_covered, use)
  local left, rate = coverage[UNCOVERED], step[RATE]
  local pricing = step[PRICING]
  if left == 0 and (coverage[BENEFIT] > 0 or is_covered) then
    if pricing and pricing.fees then
      cover_fees(coverage, step, payer, wallets, use)
    end
    return
  elseif pricing or (rate and wallets[1]) then
    cover_rated(coverage, step, payer, left, wallets, use, pricing)
    if pricing and pricing.fees and coverage[RATED] == 0 and coverage[BENEFIT] > 0 and not use.is_grant then
      cover_fees(coverage, step, payer, wallets, use)
    end
    return
  elseif not rate then
    coverage[WHY] = left > 0 and step[NO_RATE] or nil
    return
  end
  local amount = price_of_blocks(rate, blocks_of(rate, left))
  if amount > 0 and (step[MODE] ~= UNLIMITED or amount > EXACT_MAX) then
    local headroom = headroom_of(step, payer)
    if amount > headroom then
      local rated = affordable(rate, left, headroom)
      coverage[RATED], coverage[UNCOVERED] = rated, left - rated
      coverage[WHY] = lacks_money(step, headroom)
      coverage[AMOUNT] = rated > 0 and price_of_blocks(rate, blocks_of(rate, rated)) or 0
      return
    end
  end
  coverage[RATED], coverage[UNCOVERED], coverage[AMOUNT] = left, 0, amount
end

-- What a step can cover of a volume that its limits let pass.
function cover_allowed(step, name, payer, quantity, use)
  local left, draws, wallets, is_covered = quantity, NOTHING, NOTHING, false
  local runs = step[MEASURES] and {}
  if runs then
    left = cover_with_rests(step, left, runs, use)
  end
  if step[POOL] or (payer and payer[BUCKETS][1]) then
    draws = eligible(step, name, payer, use)
    local count, found = 0, #draws
    for index = 1, found do
      local entry = draws[index]
      if entry[1][UNIT] == UNIT_MONEY then
        wallets = wallets[1] and wallets or {}
        wallets[#wallets + 1] = entry
      elseif left == 0 then
        is_covered = true
      else
        local number, covered = step[REFS][entry[1][REF]], nil
        if number == true then
          covered = min(left, entry[4])
          entry[2] = covered
        else
          covered, entry[2] = cover_with(run_of(runs, number, step, use), left, entry[4])
        end
        left = left - covered
        if entry[2] > 0 then
          count = count + 1
          draws[count] = entry
        end
      end
    end
    for index = found, count + 1, -1 do
      draws[index] = nil
    end
  end
  local coverage = { quantity - left, 0, left, 0, draws }
  cover_left(coverage, step, payer, wallets, is_covered, use)
  if runs and not use.is_grant then
    count_runs(coverage, runs)
  end
  return coverage
end

-- How much of a volume limits let pass, and what they count: all that is used, whether it may or not. What asks first
-- leaves to grants what they hold.
local function within_limits(limits, quantity, use)
  local allowed, counts = quantity, {}
  for index, limit in ipairs(limits) do
    local most = limit[4]
    local stands, held = counted(limit[1], limit[2], limit[3], use)
    stands = stands or 0
    if most > 0 then
      allowed = min(allowed, max(0, most - stands - held))
    end
    counts[index] = { limit[1], limit[2], limit[3], stands + quantity, quantity, most }
  end
  return allowed, counts
end

-- Phase one: what a step can cover of a volume, and from what. Changes no balance.
function cover(step, name, payer, quantity, use)
  if not step[LIMITS] or purpose == ENQUIRY then
    return cover_allowed(step, name, payer, quantity, use)
  end
  local allowed, counts = within_limits(step[LIMITS], quantity, use)
  local coverage = { 0, 0, 0, 0, NOTHING }
  if allowed > 0 or quantity == 0 then
    coverage = cover_allowed(step, name, payer, allowed, use)
  end
  if allowed < quantity then
    coverage[UNCOVERED] = coverage[UNCOVERED] + quantity - allowed
    coverage[WHY] = coverage[WHY] or REASON.USAGE_LIMIT
  end
  for _, count in ipairs(coverage[COUNTED] or NOTHING) do
    counts[#counts + 1] = count
  end
  coverage[COUNTED] = counts
  return coverage
end

-- Begins the validity of an add-on that waited: of all of its buckets, whichever is drawn first.
local function activate(name, drawn, time)
  local source = string.match(drawn[ID], '^[^.]*')
  for _, bucket in ipairs(holder(name)[BUCKETS]) do
    if bucket[STATE] == PENDING and string.match(bucket[ID], '^[^.]*') == source then
      bucket[STATE], bucket[ACTIVATED] = ACTIVE, time
      local ends = time + bucket[VALIDITY]
      if bucket[VALIDITY] > 0 then
        bucket[RENEWAL], bucket[TOLD] = bucket[RENEWAL] or false, bucket[EXPIRES]
        bucket[EXPIRES] = bucket[EXPIRES] == 0 and ends or min(bucket[EXPIRES], ends)
        bucket[CYCLES] = cycles_until(bucket[CYCLES], ends)
      end
    end
  end
  notice(name, drawn[ID], NOTICE.ACTIVATED, drawn[EXPIRES])
end

-- Takes what an entry of the draws says, and makes the entry what is told of it: {bucket, how much, what it was}.
local function draw_bucket(entry, time)
  local bucket, take, name, place_of_rest = entry[1], entry[2], entry[3], entry[5]
  local what = bucket[ROLE] == ROLE_POOL and DRAW_OF_POOL or 0
  if bucket[UNIT] == UNIT_MONEY then
    what = what + DRAW_OF_MONEY
  end
  entry[4], entry[5], dirty[name] = nil, nil, true
  if place_of_rest then -- what was lost at an end is not
    bucket[FORMER][place_of_rest] = bucket[FORMER][place_of_rest] - take
    move(name, bucket[ID], MOVE.EXPIRY, take)
    entry[1], entry[3] = bucket[ID], what + DRAW_LATE
    return
  elseif bucket[STATE] == PENDING then
    what = what + DRAW_ACTIVATED
    activate(name, bucket, time)
  end
  if bucket[RENEWAL] then
    supply(name, bucket, take, time)
  end
  local before = bucket[REMAINING]
  bucket[REMAINING] = before - take
  if before == take then
    bucket[STATE] = DEPLETED
  end
  notice_use(name, bucket, before)
  entry[1], entry[3] = bucket[ID], what
end

-- Says that use has left a fifth, or nothing, of money or of a limit, and that there was more before: whole numbers, of which
-- a fifth that is not whole tells apart the same. Where cells share an account, its limit here has no version: what is left of
-- a slice says nothing.
local function notice_left(name, payer, before, left, whole, share_used, used_up)
  if payer[LIMIT_VERSION] == 0 and payer[LIMIT] >= 0 then
    return
  end
  if whole > 0 and left <= whole / 5 and before > whole / 5 then
    notice(name, '', share_used, 80)
  end
  if left <= 0 and before > 0 then
    notice(name, '', used_up, whole)
  end
end

local function draw_money(name, payer, amount)
  local before, full = payer[MONEY], payer[FULL] or 0
  local left = before - amount
  payer[MONEY] = left
  if left <= full / 5 then
    notice_left(name, payer, before, left, full, NOTICE.SHARE_USED, NOTICE.USED_UP)
  end
end

local function draw_credit(name, payer, amount)
  local before, limit = payer[USED], payer[LIMIT]
  payer[USED] = before + amount
  local left = limit - payer[USED]
  if left <= limit / 5 then
    notice_left(name, payer, limit - before, left, limit, NOTICE.CREDIT_SHARE_USED, NOTICE.CREDIT_USED_UP)
  end
end

-- Phase two: draw what was covered. What was covered becomes what is told of the step.
function draw(step, name, payer, coverage, use)
  local draws, amount, counts = coverage[DRAWS], coverage[AMOUNT], nil
  for index = 1, #draws do
    draw_bucket(draws[index], use.time)
  end
  if coverage[COUNTED] and coverage[COUNTED][1] then
    counts = {}
    for _, count in ipairs(coverage[COUNTED]) do
      counts[#counts + 1], counts[#counts + 2], counts[#counts + 3] = count[1], count[4] - count[5], count[5]
      set_count(count[1], count[2], count[3], count[4], use, count[9])
      local most = count[6]
      if most and most > 0 and count[4] >= most and count[4] - count[5] < most then
        notice(count[2] == '' and use.endpoint or count[2], count[1], NOTICE.LIMIT_REACHED, most)
      end
    end
  end
  if amount ~= 0 and step[MODE] ~= UNLIMITED then
    if step[MODE] == PREPAID then
      draw_money(name, payer, amount)
    else
      draw_credit(name, payer, amount)
    end
    dirty[name] = true
  end
  coverage[DRAWS + 1], coverage[COUNTED], coverage[SLOWED], coverage[LACKS] = counts, nil, nil, nil
end

end

local function step_holder(step, endpoint)
  local name = step[HOLDER]
  if name == '' then
    name = endpoint
  end
  if name == '-' then
    return name, nil -- a postpaid account without limit or benefits: only the fold sums it
  end
  return name, holder(name)
end

local function is_blocked(program, endpoint)
  local blocked = holder(endpoint)[BLOCKED]
  return blocked ~= '' and string.find(blocked, program[SERVICE], 1, true)
end

-- What lacked a balance blocks the service until one covers what is asked for; a missing rate does not.
local function block(program, endpoint, reason)
  local lacks_balance = reason == REASON.BALANCE_DEPLETED or reason == REASON.NO_VALID_ADDON or reason == REASON.CREDIT_LIMIT
  if lacks_balance and not is_blocked(program, endpoint) then
    local payer = holder(endpoint)
    payer[BLOCKED] = payer[BLOCKED] .. program[SERVICE]
    dirty[endpoint] = true
    notice(endpoint, '', NOTICE.BLOCKED, tonumber(program[SERVICE]))
  end
end

-- One service that is covered again; without one all of them, as money or volume came.
local function unblock(name, payer, service)
  local blocked, which = payer[BLOCKED], service or '.'
  if not string.find(blocked, which) then
    return
  end
  for each in string.gmatch(blocked, which) do
    notice(name, '', NOTICE.UNBLOCKED, tonumber(each))
  end
  payer[BLOCKED] = string.gsub(blocked, which, '')
  dirty[name] = true
end

local charge
do

local names_of, payers_of = {}, {} -- of the steps that are charged at the moment

-- Charges a volume at every step, or, if it must be covered and is not, at none. A use is when it was, and, for
-- prices that count: begins of its periods, cost, and its session's counts or reference.
function charge(program, endpoint, quantity, use, mode)
  local steps, coverages, uncovered, reason, throttled = program[STEPS], {}, 0, nil, nil
  for index = 1, #steps do
    local step = steps[index]
    local name, payer = step_holder(step, endpoint)
    local coverage = cover(step, name, payer, quantity, use)
    names_of[index], payers_of[index], coverages[index] = name, payer, coverage
    throttled = throttled or coverage[SLOWED]
    if coverage[WHY] then
      if mode == ONLINE then
        return { REFUSED, coverage[WHY], index - 1 }
      end
      uncovered, reason = max(uncovered, coverage[UNCOVERED]), reason or coverage[WHY]
    end
  end
  for index = 1, #steps do
    draw(steps[index], names_of[index], payers_of[index], coverages[index], use)
  end
  if reason then
    block(program, endpoint, reason)
  end
  return { CHARGED, uncovered, coverages, throttled or nil }
end

end

-- Slices --------------------------------------------------------------------------------------------------------

-- An account above enterprises has only a slice of its money or limit here; the rest is free or in other cells
-- (services/rating/domain/escrow.py). What was ever leased to the cell and returned by it: of money at 1 and 2, of
-- credit at 3 and 4. An operation that names such steps is SHORT where it would be refused for want of more.
local lease_op, short_of, charge_from_slices
do

local MONEY_KIND = 1

local function lease_of(name)
  local found = leases[name]
  if found == nil then
    local blob = redis.call('GET', key('l:', name))
    found = blob and unpack_blob(blob) or { 0, 0, 0, 0 }
    leases[name] = found
  end
  return found
end

local function unspent(payer, is_money)
  if is_money then
    return payer[MONEY] - payer[MONEY_RESERVED]
  end
  return payer[LIMIT] - payer[USED] - payer[USED_RESERVED]
end

-- op: kind, holder, money or credit, all that was ever leased, how much to give back at most
function lease_op(op)
  local name, is_money, leased, back = op[2], op[3] == MONEY_KIND, op[4], op[5]
  local record, payer, at = lease_of(name), holder(name), 2 * op[3] - 1
  local more = max(0, leased - record[at])
  if not payer then
    if more == 0 then
      return { DONE, record[at], record[at + 1], 0 }
    end
    payer = { -1, {}, 0, 0, 0, 0, 0, 0, '', {} }
  end
  local field = is_money and MONEY or LIMIT
  if leased > EXACT_MAX or payer[field] + more > EXACT_MAX then
    return { FAILED, FAILURE.SLICE_OVERFLOW }
  end
  holders[name] = payer
  payer[field] = payer[field] + more
  local returned = min(back, max(0, unspent(payer, is_money)))
  if more > 0 or returned > 0 then
    payer[field] = payer[field] - returned
    record[at], record[at + 1] = record[at] + more, record[at + 1] + returned
    dirty[name], dirty_leases[name] = true, true
    if is_money and more ~= returned then
      move(name, '', MOVE.LEASED, more - returned)
    end
  end
  return { DONE, record[at], record[at + 1], unspent(payer, is_money) }
end

-- What a step needs for a volume if money is no question, and no limit. Changes no balance.
local function needed_at(step, name, payer, quantity, use)
  local field = step[MODE] == PREPAID and MONEY or LIMIT
  local kept = payer[field]
  payer[field] = EXACT_MAX
  local coverage = cover_allowed(step, name, payer, quantity, use)
  payer[field] = kept
  return coverage[AMOUNT] + (coverage[LACKS] or 0)
end

-- Says which slice is too small for the volumes: {SHORT, step, needed, lacking}; nil if none is. The first is used, the
-- second granted. `needs` sums up what each holder needs; `held` is what the operation itself will give back of it.
function short_of(program, endpoint, slices, quantities, use, needs, held)
  for _, index in ipairs(slices) do
    local step = program[STEPS][index]
    local name, payer = step_holder(step, endpoint)
    local needed = needs[name] or 0
    for number, quantity in ipairs(quantities) do
      use.is_grant = number > 1
      if quantity > 0 or not quantities[2] then -- a charge may be of none, a session's line then says nothing
        needed = needed + needed_at(step, name, payer, quantity, use)
      end
    end
    use.is_grant = false
    needs[name] = needed
    local lacking = needed - unspent(payer, step[MODE] == PREPAID) - (held[name] or 0)
    if needed > 0 and lacking > 0 then
      return { SHORT, index - 1, needed, lacking }
    end
  end
  return nil
end

-- A charge at steps with slices: what only lacks a larger slice is SHORT and changes nothing.
function charge_from_slices(program, endpoint, op, use)
  local outcome, at_slice = charge(program, endpoint, op[6], use, ONLINE), false
  if outcome[1] == CHARGED then
    return outcome
  end
  for _, index in ipairs(op[12]) do
    at_slice = at_slice or index == outcome[3] + 1
  end
  if at_slice or op[8] == OFFLINE then
    local short = short_of(program, endpoint, op[12], { op[6] }, use, {}, NOTHING)
    if short then
      return short
    end
  end
  return op[8] == ONLINE and outcome or charge(program, endpoint, op[6], use, OFFLINE)
end

end

-- Operations ----------------------------------------------------------------------------------------------------

-- Whether the accounts that a program works with are configured as it expects; the same for all of a batch.
local function accounts_fresh(program, expected)
  local found = fresh_programs[program]
  if found == nil then
    found = true
    for _, name in ipairs(program[ACCOUNTS]) do
      local other = holder(name)
      found = found and other and other[VERSION] == expected[name] or false
    end
    fresh_programs[program] = found
  end
  return found
end

local function fresh(program, endpoint, expected)
  local payer = holder(endpoint)
  return payer and payer[VERSION] == expected[endpoint] and accounts_fresh(program, expected)
end

local charge_op
do

local the_use = {} -- of the charge that is decided at the moment

function charge_op(op, programs, expected)
  local program, endpoint, asks = programs[op[5]], op[4], op[8] == ONLINE
  if not fresh(program, endpoint, expected) then
    return { STALE }
  end
  if asks and program[DENY_REASON] ~= 0 then
    return { REFUSED, program[DENY_REASON], program[DENY_STEP] }
  end
  local use = the_use
  use.endpoint, use.time, use.periods, use.cost, use.session_ref = endpoint, op[7], op[9], op[10], op[11]
  use.asks = asks
  local outcome
  if op[12] then
    outcome = charge_from_slices(program, endpoint, op, use)
  else
    outcome = charge(program, endpoint, op[6], use, op[8])
  end
  if asks and is_blocked(program, endpoint) then
    if outcome[1] == REFUSED then
      return { REFUSED, REASON.ENDPOINT_BLOCKED, 0 }
    elseif outcome[1] == CHARGED then
      unblock(endpoint, holder(endpoint), program[SERVICE])
    end
  end
  return outcome
end

end

local configure_op
do
-- When the present cycle of a bucket ends, if the end of its assignment was moved; nil if that does not touch it.
local function moved_end(bucket, cycles)
  local known, ends, last = bucket[CYCLES], bucket[EXPIRES], cycles[#cycles]
  local is_later = last and last > ends and known[#known] == ends
  local is_earlier = last and last < ends and ends > now
  for _, boundary in ipairs((is_later or is_earlier) and cycles or NOTHING) do
    if boundary > (is_later and ends or now) then
      return boundary
    end
  end
  return is_earlier and last or nil
end

-- The cycles that an assignment says; those of what is valid for some time from its first use end with that.
local function cycles_of(bucket, spec)
  if bucket[VALIDITY] > 0 and bucket[STATE] ~= PENDING and spec[STATE] == PENDING then
    return cycles_until(spec[CYCLES], bucket[ACTIVATED] + bucket[VALIDITY])
  end
  return spec[CYCLES]
end

-- Moves the end of a bucket to that of its assignment. One that is valid from its first use ends by itself, unless the
-- end of its assignment was moved since then.
local function adjust_end(bucket, spec)
  if spec[STATE] ~= PENDING or bucket[STATE] == PENDING or bucket[VALIDITY] == 0 then
    bucket[EXPIRES] = spec[EXPIRES]
  elseif spec[EXPIRES] ~= (bucket[TOLD] or 0) then
    bucket[EXPIRES] = spec[EXPIRES] ~= 0 and spec[EXPIRES] or bucket[ACTIVATED] + bucket[VALIDITY]
    bucket[RENEWAL], bucket[TOLD] = bucket[RENEWAL] or false, spec[EXPIRES]
  end
end

-- Another base plan took the place of a bucket's own: it ends by then, and is for what is told late.
local function end_by(bucket, spec)
  bucket[REF], bucket[RENEWAL], bucket[TOLD] = spec[REF], bucket[RENEWAL] or false, spec[TOLD]
  if bucket[STATE] ~= EXPIRED then
    bucket[EXPIRES] = bucket[EXPIRES] == 0 and spec[TOLD] or min(bucket[EXPIRES], spec[TOLD])
  end
end

-- Brings a bucket that is there to what its assignment says now; what was drawn from it stays.
local function adjust_bucket(bucket, spec)
  local renewal, cycles = bucket[RENEWAL], cycles_of(bucket, spec)
  if next(bucket[CYCLES]) and bucket[STATE] ~= EXPIRED then
    bucket[EXPIRES] = moved_end(bucket, cycles) or bucket[EXPIRES]
  end
  bucket[PRIORITY], bucket[CYCLES] = spec[PRIORITY], cycles
  if bucket[ROLE] == ROLE_BASE and spec[TOLD] then
    end_by(bucket, spec)
  end
  if renewal and spec[RENEWAL] then
    local anew = spec[RENEWAL]
    renewal.quantity, renewal.cycles, renewal.shares = anew.quantity, anew.cycles, anew.shares
    renewal.order, renewal.rests_most = anew.order, anew.rests_most
  end
  if renewal and renewal.on > 0 then
    renewal.last_end = spec[RENEWAL].last_end
    if bucket[STATE] ~= EXPIRED then
      bucket[EXPIRES] = present_end(bucket)
    end
  elseif bucket[ROLE] ~= ROLE_BASE and not next(spec[CYCLES]) then -- the end of a base bucket moves only by refills
    adjust_end(bucket, spec)
  end
end

local GROWS = 2 -- a team

-- Brings a pool to what its members bring now, to each cycle (`whole`) and to the one that ends at `ends`. What was drawn
-- or is reserved stays so.
local function resize(name, payer, bucket, whole, present, ends)
  local renewal = bucket[RENEWAL]
  renewal.quantity = present
  refresh(name, payer, bucket, now)
  renewal.quantity = whole
  local size = bucket[EXPIRES] > ends and whole or present
  local change, short = size - bucket[GRANTED], renewal.short or 0
  bucket[GRANTED] = size
  if change > 0 then
    local more = max(0, change - short)
    note_short(bucket, short - change)
    if more > 0 then
      bucket[REMAINING], bucket[STATE] = bucket[REMAINING] + more, ACTIVE
      move(name, bucket[ID], MOVE.GRANT, more)
    end
  elseif change < 0 then
    local before = bucket[REMAINING]
    note_short(bucket, short + lessen(name, bucket, -change))
    if before > 0 and bucket[REMAINING] == 0 and size > 0 then
      notice(name, bucket[ID], NOTICE.USED_UP, size)
    end
  end
end

-- Empties what nobody shares any more. Says whether something was used of it: that is remembered until the cycle ends, for
-- those who come back.
local function emptied(name, payer, bucket)
  local renewal = bucket[RENEWAL]
  if not (renewal and renewal.team) or (bucket[REMAINING] == bucket[GRANTED] and not renewal.short) then
    return false
  end
  resize(name, payer, bucket, 0, 0, bucket[EXPIRES])
  return renewal.short ~= nil
end

-- A bucket that knows few boundaries of cycles ahead is told more, also when nothing else has changed.
local function tell_cycles(name, payer, specs)
  local by_id = {}
  for _, spec in ipairs(specs) do
    by_id[spec[ID]] = spec
  end
  for _, bucket in ipairs(payer[BUCKETS]) do
    local known, spec = bucket[CYCLES], by_id[bucket[ID]]
    local told = spec and cycles_of(bucket, spec) or NOTHING
    if known[1] and told[1] and told[#told] > known[#known] then
      bucket[CYCLES] = told
      dirty[name] = true
    end
  end
end

-- Makes a holder what its configuration says: new assignments are filled, removed ones forfeited.
-- op: kind, holder, version, version of the limit, limit, buckets, whether to see to what has ended by now
function configure_op(op)
  local name, version, limit_version, limit, specs = op[2], op[3], op[4], op[5], op[6]
  local payer = holder(name) or { -1, {}, 0, 0, 0, 0, -1, -1, '', {} }
  holders[name] = payer
  if limit_version > payer[LIMIT_VERSION] then
    payer[LIMIT], payer[LIMIT_VERSION] = limit, limit_version
    dirty[name] = true
  end
  if version <= payer[VERSION] then
    if version == payer[VERSION] then
      tell_cycles(name, payer, specs)
    end
    return { DONE }
  end
  local present, kept, wanted, replaced = {}, {}, {}, {}
  for _, bucket in ipairs(payer[BUCKETS]) do
    present[bucket[ID]] = bucket
  end
  for index, spec in ipairs(specs) do
    wanted[spec[ID]] = spec
    local bucket = present[spec[ID]]
    if bucket then
      adjust_bucket(bucket, spec)
      local team = spec[RENEWAL] and spec[RENEWAL].team
      if team == GROWS or team and bucket[GRANTED] == 0 then
        resize(name, payer, bucket, spec[RENEWAL].quantity, spec[GRANTED], spec[EXPIRES])
      end
    else
      bucket = spec
      move(name, bucket[ID], MOVE.GRANT, bucket[REMAINING])
      if not spec[TOLD] then
        unblock(name, payer)
      end
    end
    replaced[#replaced + 1] = spec[TOLD] and bucket or nil
    kept[index] = bucket
  end
  for _, bucket in ipairs(payer[BUCKETS]) do
    local id = bucket[ID]
    local is_rest = bucket[VALIDITY] < 0 and wanted[string.match(id, '^[^~]*')]
    if is_rest and is_rest[TOLD] then
      end_by(bucket, is_rest)
      replaced[#replaced + 1] = bucket
    end
    if is_rest or not wanted[id] and emptied(name, payer, bucket) then
      kept[#kept + 1] = bucket
    elseif not wanted[id] and bucket[REMAINING] > 0 then
      move(name, id, MOVE.REMOVAL, -bucket[REMAINING])
    end
  end
  payer[BUCKETS], payer[VERSION] = kept, version
  for _, bucket in ipairs(replaced) do
    refresh(name, payer, bucket, now)
  end
  for counter, found in pairs(payer[COUNTERS]) do
    if found[1] > 0 and found[1] < now / 1000 - COUNTERS_KEPT_S then -- what grants hold of windows has no begin
      payer[COUNTERS][counter] = nil
    end
  end
  dirty[name] = true
  return { DONE }
end

end

local function top_up_op(op)
  local name, amount = op[4], op[5]
  local payer = holder(name)
  if not payer then
    return { STALE }
  end
  if payer[MONEY] + amount > EXACT_MAX then
    return { FAILED, FAILURE.OVERFLOW }
  end
  payer[MONEY] = payer[MONEY] + amount
  payer[FULL] = payer[MONEY]
  unblock(name, payer)
  dirty[name] = true
  move(name, '', MOVE.TOPPED_UP, amount)
  return { DONE, payer[MONEY] }
end

-- Corrections ---------------------------------------------------------------------------------------------------
--
-- A chunk has room for 200 locals at once, so what only a section needs is local to it.

local correct
do

local ADJUST = 6
local REFUND_EXCEEDED, NOT_ENOUGH, LIMIT_EXCEEDED, BUCKET_ENDED = 6, 7, 8, 9
local REFUNDED, ADJUSTED, TRANSFERRED = 6, 7, 8
local CREDIT_USED = '-' -- where a bucket may be named; '' is money

-- floor(amount * part / whole), exactly: long division in base 512, for part <= whole <= 2^43 and amount < 2^53.
local function share(amount, part, whole)
  local times = floor(amount / whole)
  local rest, quotient, remainder, scale = amount - times * whole, 0, 0, 68719476736
  while scale >= 1 do
    remainder = remainder * 512 + rest * (floor(part / scale) % 512)
    local digit = floor(remainder / whole)
    quotient, remainder, scale = quotient * 512 + digit, remainder - digit * whole, scale / 512
  end
  return times * part + quotient
end

local function bucket_of(name, id)
  local payer = name ~= '' and holder(name)
  for _, bucket in ipairs(payer and payer[BUCKETS] or NOTHING) do
    if bucket[ID] == id then
      return bucket
    end
  end
  return nil
end

local function has_ended(bucket)
  return bucket[STATE] == EXPIRED or (bucket[EXPIRES] ~= 0 and now >= bucket[EXPIRES])
end

-- How many units of a usage record went back at each step, from the endpoint's upwards.
local function refunded(name)
  local found = refunds[name]
  if found == nil then
    local blob = redis.call('GET', key('r:', name))
    found = blob and unpack_blob(blob) or {}
    refunds[name] = found
  end
  return found
end

-- Changes of balances are planned, checked and then made: {holder, what has the field, field, change, balance}; the
-- balance is a bucket's id, '' for money, nil for what is owed, of which there are no movements.
local function overflows(planned)
  for _, entry in ipairs(planned) do
    if entry[2][entry[3]] + entry[4] > EXACT_MAX then
      return true
    end
  end
  return false
end

local function make(planned, kind)
  for _, entry in ipairs(planned) do
    local name, target, field, change, balance = entry[1], entry[2], entry[3], entry[4], entry[5]
    target[field] = target[field] + change
    dirty[name] = true
    if balance then
      move(name, balance, kind, change)
    end
    if balance == '' and change > 0 and kind ~= REFUNDED then
      target[FULL] = target[MONEY]
    end
    if balance and balance ~= '' and target[STATE] ~= PENDING then
      target[STATE] = target[REMAINING] > 0 and ACTIVE or DEPLETED
    end
    if kind == REFUNDED and balance and balance ~= '' then
      came_back(name, target)
    end
  end
end

-- Plans what goes back of draws, the last first, when `after` of all units shall have gone back instead of `before`.
-- A bucket that ended, or was filled anew since the draw, gets nothing: that part lapses, as does what late use drew of
-- what had been lost.
local function plan_draws(planned, op, step, draws, before, after)
  local total, begin, parts = 0, 0, {}
  for _, entry in ipairs(draws) do
    total = total + entry[2]
  end
  local first, last = share(total, before, op[6]), share(total, after, op[6])
  for _, entry in ipairs(draws) do
    local back = min(last, begin + entry[2]) - max(first, begin)
    begin = begin + entry[2]
    if back > 0 then
      local name, bucket = step[1], bucket_of(step[1], entry[1])
      if not bucket then
        name, bucket = step[2], bucket_of(step[2], entry[1])
      end
      local lives = bucket and not entry[3] and not has_ended(bucket) and bucket[FILLED] <= op[7]
      if lives then
        planned[#planned + 1] = { name, bucket, REMAINING, back, entry[1] }
      end
      parts[#parts + 1] = { entry[1], lives and back or 0, lives and 0 or back }
    end
  end
  return parts
end

local function plan_refund(planned, op, step, before, after)
  local back = share(step[4], after, op[6]) - share(step[4], before, op[6])
  local payer = step[3] ~= UNLIMITED and holder(step[1])
  if payer and back > 0 then
    local is_money = step[3] == PREPAID
    planned[#planned + 1] = { step[1], payer, is_money and MONEY or USED, is_money and back or -back, is_money and '' or nil }
  end
  local volumes = plan_draws(planned, op, step, step[5], before, after)
  local covered, restored, lapsed = share(step[7], after, op[6]) - share(step[7], before, op[6]), 0, 0
  for _, part in ipairs(volumes) do
    restored, lapsed = restored + part[2], lapsed + part[3]
  end
  if lapsed > 0 then
    covered = floor(covered * (restored / (restored + lapsed)))
  end
  return { after - before, back, volumes, plan_draws(planned, op, step, step[6], before, after), covered }
end

-- op: kind, id, hash, record, units (0 is all that is left), units of the record, its place, steps of {holder, pool,
-- mode, amount, draws of volume, draws of money, units that the volumes covered} with the last draw first, endpoint. Units went back at a step if
-- they did at a step above it; what a step has back already does not go back again.
local function refund_op(op)
  local name, quantity, total, steps = op[4], op[5], op[6], op[8]
  local earlier, planned, answers, now_back = refunded(name), {}, {}, {}
  local top = earlier[#steps] or 0
  local upto = quantity == 0 and total or top + quantity
  if upto > total or upto == top then
    return { FAILED, REFUND_EXCEEDED, total - top }
  end
  for index, step in ipairs(steps) do
    local before = earlier[index] or 0
    now_back[index] = max(before, upto)
    answers[index] = plan_refund(planned, op, step, before, now_back[index])
  end
  if overflows(planned) then
    return { FAILED, FAILURE.OVERFLOW, EXACT_MAX }
  end
  for index = #steps + 1, #earlier do
    now_back[index] = earlier[index]
  end
  make(planned, REFUNDED)
  unblock(op[9], holder(op[9]))
  refunds[name], dirty_refunds[name] = now_back, true
  return { DONE, upto - top, answers }
end

-- op: kind, id, hash, holder, bucket, change, what must be left
local function adjust_op(op)
  local name, id, change = op[4], op[5], op[6]
  local payer = holder(name)
  if not payer then
    return { STALE }
  end
  local entry, free
  if id == CREDIT_USED then
    entry, free = { name, payer, USED, change }, payer[USED]
    if change > 0 and payer[LIMIT] >= 0 and payer[USED] + payer[USED_RESERVED] + change > payer[LIMIT] then
      return { FAILED, LIMIT_EXCEEDED, max(0, payer[LIMIT] - payer[USED] - payer[USED_RESERVED]) }
    end
  elseif id == '' then
    entry, free = { name, payer, MONEY, change, '' }, payer[MONEY] - payer[MONEY_RESERVED]
  else
    local bucket = bucket_of(name, id)
    if not bucket or has_ended(bucket) then
      return { FAILED, BUCKET_ENDED, 0 }
    end
    entry, free = { name, bucket, REMAINING, change, id }, bucket[REMAINING] - bucket[RESERVED]
  end
  if change < 0 and free + change < op[7] then
    return { FAILED, NOT_ENOUGH, max(0, free - op[7]) }
  elseif overflows({ entry }) then
    return { FAILED, FAILURE.OVERFLOW, EXACT_MAX }
  end
  make({ entry }, ADJUSTED)
  if (change > 0) == (id ~= CREDIT_USED) then
    unblock(name, payer)
  end
  return { DONE, entry[2][entry[3]] }
end

-- op: kind, id, hash, from, to, amount
local function transfer_op(op)
  local from, to, amount = op[4], op[5], op[6]
  local giver, taker = holder(from), holder(to)
  if not giver or not taker then
    return { STALE }
  end
  local planned = { { from, giver, MONEY, -amount, '' }, { to, taker, MONEY, amount, '' } }
  local free = giver[MONEY] - giver[MONEY_RESERVED]
  if free < amount then
    return { FAILED, NOT_ENOUGH, max(0, free) }
  elseif overflows(planned) then
    return { FAILED, FAILURE.OVERFLOW, EXACT_MAX }
  end
  make(planned, TRANSFERRED)
  unblock(to, taker)
  return { DONE, giver[MONEY], taker[MONEY] }
end

function correct(op)
  if op[1] == REFUND then
    return refund_op(op)
  elseif op[1] == ADJUST then
    return adjust_op(op)
  end
  return transfer_op(op)
end

end

-- Adds to a bucket and extends the validity of all that is in it; what has ended is lost first.
-- op: kind, id, hash, holder, bucket, quantity, validity (0 without end), most that it may hold (0 without bound)
local function refill_op(op)
  local name, quantity, validity, most = op[4], op[6], op[7], op[8]
  local payer, bucket = holder(name), nil
  if not payer then
    return { STALE }
  end
  for _, each in ipairs(payer[BUCKETS]) do
    bucket = each[ID] == op[5] and each or bucket
  end
  if not bucket or next(bucket[CYCLES]) or bucket[VALIDITY] < 0 then
    return { FAILED, FAILURE.NO_SUCH_BUCKET }
  end
  local ended = bucket[EXPIRES] ~= 0 and bucket[EXPIRES] <= now
  local before = ended and 0 or bucket[REMAINING]
  if before + quantity > EXACT_MAX then
    return { FAILED, FAILURE.OVERFLOW }
  end
  refresh(name, payer, bucket, now)
  local forfeited = most > 0 and min(quantity, max(0, before + quantity - most)) or 0
  move(name, bucket[ID], MOVE.REFILLED, quantity)
  if forfeited > 0 then
    move(name, bucket[ID], MOVE.REFILLED, -forfeited)
  end
  bucket[REMAINING] = before + quantity - forfeited
  bucket[GRANTED] = max(bucket[REMAINING], 1)
  local ends = validity > 0 and now + validity or 0
  if ended then
    bucket[ACTIVATED], bucket[EXPIRES], bucket[FILLED] = now, ends, place
  elseif bucket[EXPIRES] ~= 0 then
    bucket[EXPIRES] = ends == 0 and 0 or max(bucket[EXPIRES], ends)
  end
  bucket[STATE] = bucket[REMAINING] > 0 and ACTIVE or DEPLETED
  unblock(name, payer)
  dirty[name] = true
  return { DONE, bucket[REMAINING], bucket[EXPIRES], forfeited }
end

-- Sessions ------------------------------------------------------------------------------------------------------

local session_op, sweep, due_at
do

local CREATE, RELEASE = 0, 2
local NO_COST = -1 -- a session does not say what the visited network asks
local SESSION_NOT_FOUND, SESSION_CLOSED, OUT_OF_SEQUENCE, REF_REUSED = 1, 2, 3, 4

local function session(id)
  local found = sessions[id]
  if found == nil then
    local blob = redis.call('GET', key('s:', id))
    found = blob and unpack_blob(blob) or false
    sessions[id] = found
  end
  return found
end

-- Gives a reservation back; notes in `granted` when what it held of windows was granted.
local function give_back(reservation, session_counts, granted)
  local name, amount, mode, parts = reservation[1], reservation[2], reservation[3], reservation[4]
  if reservation[6] then
    granted[reservation[6][1]] = reservation[6][4]
    give_back_count(name, reservation[6], session_counts)
    return
  end
  local payer = holder(name)
  if not payer then
    return
  end
  if mode == PREPAID then
    payer[MONEY_RESERVED] = max(0, payer[MONEY_RESERVED] - amount)
  elseif mode == POSTPAID then
    payer[USED_RESERVED] = max(0, payer[USED_RESERVED] - amount)
  end
  for _, part in ipairs(parts) do
    for _, bucket in ipairs(payer[BUCKETS]) do
      if bucket[ID] == part[1] then
        bucket[RESERVED] = max(0, bucket[RESERVED] - part[2])
        came_back(name, bucket)
      end
    end
  end
  dirty[name] = true
end

local function give_back_services(open, is_meant)
  local kept, granted = {}, {}
  for _, reservation in ipairs(open[RESERVATIONS]) do
    if is_meant(reservation[5]) then
      give_back(reservation, open[COUNTS], granted)
    else
      kept[#kept + 1] = reservation
    end
  end
  open[RESERVATIONS] = kept
  return granted
end

-- Reserves the largest part of a volume that every step can cover; says, too, when the first of the buckets that it took ends.
local function reserve(open, program, endpoint, service, quantity, use)
  if program[DENY_REASON] ~= 0 then
    return 0, program[DENY_REASON], program[DENY_STEP]
  end
  local granted, reason, limiting, coverages = quantity, 0, 0, nil
  use.is_grant = true
  repeat
    local before = granted
    coverages = {}
    for index, step in ipairs(program[STEPS]) do
      local name, payer = step_holder(step, endpoint)
      coverages[index] = cover(step, name, payer, granted, use)
      if coverages[index][UNCOVERED] > 0 then
        granted = granted - coverages[index][UNCOVERED]
        reason, limiting = coverages[index][WHY], index - 1
        break
      end
    end
  until granted == before or granted == 0
  if granted == 0 and is_blocked(program, endpoint) then
    return 0, REASON.ENDPOINT_BLOCKED, 0
  elseif granted == 0 then
    return 0, reason, limiting
  end
  unblock(endpoint, holder(endpoint), program[SERVICE])
  local throttled, ends = false, EXACT_MAX
  for index, step in ipairs(program[STEPS]) do
    local name, payer = step_holder(step, endpoint)
    local coverage, parts = coverages[index], {}
    throttled = throttled or coverage[SLOWED]
    for _, entry in ipairs(coverage[DRAWS]) do
      local bucket, owner = entry[1], entry[3]
      if bucket[RENEWAL] then
        supply(owner, bucket, entry[2], use.time)
      end
      bucket[RESERVED] = bucket[RESERVED] + entry[2]
      local bucket_ends = final_end(bucket)
      if bucket_ends > now then
        ends = min(ends, bucket_ends)
      end
      parts[owner] = parts[owner] or {}
      parts[owner][#parts[owner] + 1] = { bucket[ID], entry[2] }
    end
    local amount = step[MODE] ~= UNLIMITED and max(0, coverage[AMOUNT]) or 0
    if amount > 0 then
      if step[MODE] == PREPAID then
        payer[MONEY_RESERVED] = payer[MONEY_RESERVED] + amount
      else
        payer[USED_RESERVED] = payer[USED_RESERVED] + amount
      end
      parts[name] = parts[name] or {}
    end
    local is_held = {} -- components may count together
    for _, counted_of in ipairs(coverage[COUNTED] or NOTHING) do
      local counter, holder_of, period = counted_of[1], counted_of[2], counted_of[3]
      local function hold(mark, more)
        local owner, kept, window_ends = hold_count(mark, counter, holder_of, period, more, use)
        ends = min(ends, window_ends or ends)
        open[RESERVATIONS][#open[RESERVATIONS] + 1] = { owner, 0, UNLIMITED, NOTHING, service, kept }
      end
      if not is_held[holder_of .. ' ' .. counter] then
        is_held[holder_of .. ' ' .. counter] = true
        hold('+' .. counter, counted_of[5])
      end
      if counted_of[8] and counted_of[8] > 0 then
        hold('=' .. counter .. ':' .. counted_of[7], counted_of[8])
      end
    end
    for owner, taken in pairs(parts) do
      dirty[owner] = true
      open[RESERVATIONS][#open[RESERVATIONS] + 1] = { owner, owner == name and amount or 0, step[MODE], taken, service }
    end
  end
  return granted, reason, limiting, throttled, ends
end

local function keep_session(id, open)
  sessions[id] = open
  dirty_sessions[id] = true
end

-- Returns why a call does not fit, and whether it is the last one again.
local function misfit(open, action, sequence, hash)
  if action == CREATE then
    if not open then
      return nil
    end
    return REF_REUSED, open[SEQUENCE] == 0 and open[SESSION_HASH] == hash
  end
  if not open then
    return SESSION_NOT_FOUND
  end
  if sequence == open[SEQUENCE] then
    return OUT_OF_SEQUENCE, open[SESSION_HASH] == hash
  end
  if sequence ~= open[SEQUENCE] + 1 then
    return OUT_OF_SEQUENCE
  end
  return nil
end

-- Says which slice is too small for a call of a session, before the call changes anything.
local function session_short(op, open, programs)
  local needs, held, is_release = {}, {}, op[3] == RELEASE
  local named = {}
  for _, line in ipairs(op[9]) do
    named[line[1]] = true
  end
  for _, reservation in ipairs(open and open[RESERVATIONS] or NOTHING) do
    if is_release or named[reservation[5]] then
      held[reservation[1]] = (held[reservation[1]] or 0) + reservation[2]
    end
  end
  for number, line in ipairs(op[9]) do
    if line[7] then
      local function short_for(program, time, periods, volumes)
        local use = { endpoint = op[6], time = time, periods = periods, cost = NO_COST, session = open and open[COUNTS] or NOTHING }
        return short_of(programs[program], op[6], line[7], volumes, use, needs, held)
      end
      local short = short_for(line[2], line[5], line[6], { line[3] })
        or short_for(line[8], now, line[9], { 0, is_release and 0 or line[4] })
      if short then
        short[5] = number - 1
        return short
      end
    end
  end
  return nil
end

-- Whether a call reports use: that is charged whatever became of the session.
local function reports_use(lines)
  for _, line in ipairs(lines) do
    if line[3] > 0 then
      return true
    end
  end
  return false
end

-- What was reserved is given back; a session that was silent for long ends.
local function lapse(id, open)
  give_back_services(open, function() return true end)
  open[SESSION_STATE] = open[ENDS] <= now and SESSION_EXPIRED or OPEN
  keep_session(id, open)
end

-- Charges what is reported. What is reserved of a service it may use, not what is reserved of another one.
local function charge_lines(open, op, programs)
  local charged, named, first = {}, {}, place
  for _, line in ipairs(op[9]) do
    named[line[1]] = true
  end
  if op[3] == RELEASE then
    give_back_services(open, function(service) return not named[service] end)
  end
  for index, line in ipairs(op[9]) do
    local granted = give_back_services(open, function(service) return service == line[1] end)
    place = first + index - 1
    local use = { endpoint = op[6], time = line[5], periods = line[6], cost = NO_COST, session = open[COUNTS], granted = granted }
    charged[index] = line[3] > 0 and charge(programs[line[2]], op[6], line[3], use, OFFLINE) or false
  end
  return charged
end

-- op: kind, id, action, sequence, hash, endpoint, time, valid until, lines of {service, program, used, requested,
-- time of use, begins of its periods, steps with slices, program for what is granted, begins of the present periods},
-- about {endpoint, reference, network, access type}, when it ends without a call, {network, access type} until this call
function session_op(op, programs, expected)
  local id, action, sequence, hash, endpoint = op[2], op[3], op[4], op[5], op[6]
  local open = session(id)
  if open and open[SESSION_STATE] == OPEN and open[ENDS] <= now then
    lapse(id, open)
  end
  local failure, again = misfit(open, action, sequence, hash)
  if again then
    return { REPEATED, open[SESSION_ANSWER], open[SESSION_STATE], open[VALID_UNTIL], open[ENDS], open[LATE] }
  elseif failure then
    return { FAILED, failure, open and open[SEQUENCE] or 0 }
  end
  local late = open and open[SESSION_STATE] ~= OPEN or false
  if late and not reports_use(op[9]) then
    return { FAILED, SESSION_CLOSED, open[SEQUENCE] }
  end
  if open and (open[ABOUT][3] ~= op[12][1] or open[ABOUT][4] ~= op[12][2]) then
    return { STALE } -- whoever asks took it to be somewhere else, and so by which prices its use is charged
  end
  for _, line in ipairs(op[9]) do
    if not fresh(programs[line[2]], endpoint, expected) or not fresh(programs[line[8]], endpoint, expected) then
      return { STALE }
    end
  end
  local short = session_short(op, open, programs)
  if short then
    return short
  end
  open = open or { 0, OPEN, '', {}, 0, {}, {}, {}, 0, false }
  local charged = charge_lines(open, op, programs)
  local answers, valid_until = {}, op[8]
  if open[RESERVATIONS][1] then
    valid_until = min(valid_until, open[VALID_UNTIL]) -- what other services were granted holds no longer than before
  end
  for index, line in ipairs(op[9]) do
    local use = { endpoint = endpoint, time = now, periods = line[9], cost = NO_COST, session = open[COUNTS] }
    local granted, reason, limiting, throttled, ends = 0, 0, 0, false, nil
    if action ~= RELEASE and not late and line[4] > 0 then
      granted, reason, limiting, throttled, ends = reserve(open, programs[line[8]], endpoint, line[1], line[4], use)
      valid_until = min(valid_until, ends or valid_until)
    end
    local bill = charged[index]
    answers[index] = { line[1], granted, reason, limiting, bill, throttled or (bill and bill[4]) or false }
  end
  open[SEQUENCE], open[SESSION_HASH], open[SESSION_ANSWER] = sequence, hash, answers
  open[LATE], open[ABOUT] = late, op[10]
  if not late then
    open[VALID_UNTIL], open[ENDS] = valid_until, op[11]
    open[SESSION_STATE] = action == RELEASE and RELEASED or OPEN
  end
  keep_session(id, open)
  return { DONE, answers, open[SESSION_STATE], open[VALID_UNTIL], open[ENDS], late }
end

-- When a session is to be looked at next: at the end of its grants' validity, then at its own.
function due_at(open)
  return open[RESERVATIONS][1] and open[VALID_UNTIL] or open[ENDS]
end

-- Looks at the sessions that are due.
function sweep()
  local due = redis.call('ZRANGEBYSCORE', key('x', ''), '-inf', now, 'LIMIT', 0, SWEEP_MAX)
  for _, id in ipairs(due) do
    local open = session(id)
    if open and open[SESSION_STATE] == OPEN then
      lapse(id, open)
    end
  end
  return due
end

end

-- The call ------------------------------------------------------------------------------------------------------

local load_programs
do

local PROGRAMS_KEPT = 4096
local known, count = {}, 0 -- programs, unpacked, by their digests: the same in every call, and read only

-- `places` is {digest, length, ...}; one after the other, `packed` holds them.
function load_programs(places, packed)
  local programs, last = {}, 0
  for index = 1, #places, 2 do
    local digest, first = places[index], last + 1
    last = last + places[index + 1]
    local program = known[digest]
    if not program then
      if count == PROGRAMS_KEPT then
        known, count = {}, 0
      end
      program = unpack_blob(string.sub(packed, first, last))
      known[digest], count = program, count + 1
    end
    programs[#programs + 1] = program
  end
  return programs
end

end

local function load_holders(expected)
  local names, keys = {}, {}
  for name in pairs(expected) do
    names[#names + 1] = name
    keys[#keys + 1] = key('h:', name)
  end
  if keys[1] then
    for index, blob in ipairs(redis.call('MGET', unpack(keys))) do
      holders[names[index]] = blob and unpack_blob(blob) or false
    end
  end
end

-- The ids that are remembered, as `meta` counts them by stretch, the last two: {field, stretch, count}. Less of them are there
-- if the server forgot some by itself; then what was answered could be decided again.
local function forgot_ids(counted_ids, present)
  for _, field in ipairs(counted_ids) do
    local stretch, count = string.match(field or '', '^(%d+):(%d+)$')
    if stretch and tonumber(stretch) >= present - 1 and redis.call('HLEN', key('d:', stretch)) < tonumber(count) then
      return true
    end
  end
  return false
end

local function count_ids(meta_key, stretch, counted_ids)
  local here = string.format('%d:%d', stretch, redis.call('HLEN', key('d:', string.format('%d', stretch))))
  local is_new = string.match(counted_ids[1] or '', '^(%d+):') ~= string.format('%d', stretch)
  redis.call('HSET', meta_key, 'ids', here, 'ids_before', is_new and counted_ids[1] or counted_ids[2] or '')
end

-- Operations of which the id is remembered with the answer.
local function has_id(op)
  return op[1] == CHARGE or op[1] == TOP_UP or (op[1] >= REFUND and op[1] <= TRANSFER) or op[1] == REFILL
end

-- Ids that were answered are remembered in a hash for each stretch of time; the last two stretches are looked at, and
-- the next one when another clock may already be in it.
local function load_answered(ops, stretch, stretch_ms)
  local ids, position = {}, {}
  for index, op in ipairs(ops) do
    if has_id(op) then
      ids[#ids + 1] = op[2]
      position[#position + 1] = index
    end
  end
  local answered = {}
  if ids[1] then
    for each = stretch - 1, floor((now + CLOCK_SKEW_MAX_MS) / stretch_ms) do
      local found = redis.call('HMGET', key('d:', string.format('%d', each)), unpack(ids))
      for index, value in ipairs(found) do
        answered[position[index]] = answered[position[index]] or value
      end
    end
  end
  return answered
end

-- A duplicate id holds 8 bytes of the body's hash, then `sequence:index` of its answer.
local function earlier_answer(value, hash)
  if string.sub(value, 1, 8) ~= hash then
    return { REUSED }
  end
  local sequence, index = string.match(string.sub(value, 9), '^(%d+):(%d+)$')
  return { REPEATED, tonumber(sequence), tonumber(index) }
end

local function decide_op(op, programs, expected)
  if op[1] == CHARGE then
    return charge_op(op, programs, expected)
  elseif op[1] == CONFIGURE then
    local outcome = configure_op(op)
    if op[7] then
      refresh_all(op[2], holder(op[2]), nil, now)
    end
    return outcome
  elseif op[1] == TOP_UP then
    return top_up_op(op)
  elseif op[1] == LEASE then
    return lease_op(op)
  elseif op[1] == SESSION then
    return session_op(op, programs, expected)
  elseif op[1] == REFILL then
    return refill_op(op)
  end
  return correct(op)
end

local function write_state(stretch, stretch_ms, answered_now)
  local images, pairs_to_set = {}, {}
  for name in pairs(dirty) do
    local blob = pack(holders[name])
    images[#images + 1], images[#images + 2] = 'h:' .. name, blob
    pairs_to_set[#pairs_to_set + 1], pairs_to_set[#pairs_to_set + 2] = key('h:', name), blob
  end
  for name in pairs(dirty_leases) do
    local blob = pack(leases[name])
    images[#images + 1], images[#images + 2] = 'l:' .. name, blob
    pairs_to_set[#pairs_to_set + 1], pairs_to_set[#pairs_to_set + 2] = key('l:', name), blob
  end
  for id in pairs(dirty_sessions) do
    local blob = pack(sessions[id])
    images[#images + 1], images[#images + 2] = 's:' .. id, blob
    if sessions[id][SESSION_STATE] == OPEN then
      redis.call('SET', key('s:', id), blob)
      redis.call('ZADD', key('x', ''), due_at(sessions[id]), id)
    else
      redis.call('SET', key('s:', id), blob, 'PX', CLOSED_SESSION_KEPT_MS)
      redis.call('ZREM', key('x', ''), id)
    end
  end
  for name in pairs(dirty_refunds) do
    local blob = pack(refunds[name])
    images[#images + 1], images[#images + 2] = 'r:' .. name, blob
    pairs_to_set[#pairs_to_set + 1], pairs_to_set[#pairs_to_set + 2] = key('r:', name), blob
  end
  if pairs_to_set[1] then
    redis.call('MSET', unpack(pairs_to_set))
  end
  if answered_now[1] then
    local name = key('d:', string.format('%d', stretch))
    redis.call('HSET', name, unpack(answered_now))
    redis.call('PEXPIRE', name, 2 * stretch_ms)
  end
  return images
end

local function changes_something(op, outcome)
  return outcome[1] == CHARGED or outcome[1] == REFUSED or (outcome[1] == DONE and op[1] ~= CONFIGURE and op[1] ~= LEASE)
end

-- ARGV: header {epoch, least sequence, now, how long a stretch of answered ids is, journalled up to, expected versions,
-- operations, mark, purpose}, which programs are where, records (kept for the journal as they are), programs. The mark
-- is what a segment made by this call bears.
-- Answer: {sequence, outcomes, images} or {refusal word, ...}; outcomes end with the marks of the segment before and of
-- the last one, so that the journal can tell two segments with one number apart.
local function decide(keys, args)
  pack, unpack_blob = cmsgpack.pack, cmsgpack.unpack
  floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
  local header = unpack_blob(args[1])
  local epoch, least, journalled, expected, ops = header[1], header[2], header[5], header[6], header[7]
  cell, now, purpose = string.sub(keys[1], 1, -2), header[3], header[9]
  local meta = redis.call('HMGET', keys[1], 'epoch', 'sequence', 'mark', 'ids', 'ids_before')
  if meta[1] ~= tostring(epoch) then
    return { 'EPOCH', meta[1] or '' }
  end
  local sequence = tonumber(meta[2])
  if sequence < least then
    return { 'BEHIND', meta[2] }
  end
  local counted_ids = { meta[4], meta[5] }
  local stretch = floor(now / header[4])
  if forgot_ids(counted_ids, stretch) then
    return { 'FORGOT', '' }
  end
  local programs = load_programs(unpack_blob(args[2]), args[4])
  holders, dirty, sessions, dirty_sessions, moves, op_index = {}, {}, {}, {}, {}, 0
  leases, dirty_leases = {}, {}
  refunds, dirty_refunds, place = {}, {}, 0
  notices, fresh_programs, owing = {}, {}, {}
  load_holders(expected)
  local answered, answered_now, seen = load_answered(ops, stretch, header[4]), {}, {}
  local due = sweep()
  pay_short()
  local outcomes, decided = {}, #due > 0
  sequence = sequence + 1
  local here = string.format('%d:', sequence)
  for index, op in ipairs(ops) do
    op_index, place = index, sequence * PLACES + (index - 1) * LINES_MAX
    local outcome
    local remembered = has_id(op)
    local earlier = remembered and (answered[index] or seen[op[2]])
    if earlier then
      outcome = earlier_answer(earlier, op[3])
    else
      outcome = decide_op(op, programs, expected)
      if owing[1] then
        pay_short()
      end
      if changes_something(op, outcome) then
        decided = true
        if remembered then
          local value = op[3] .. here .. index
          answered_now[#answered_now + 1], answered_now[#answered_now + 2] = op[2], value
          seen[op[2]] = value
        end
      end
    end
    outcomes[index] = outcome
  end
  if purpose ~= DECIDE or not (decided or next(dirty)) then
    return { sequence - 1, pack({ outcomes, moves, notices, meta[3], meta[3] }), '' }
  end
  local images = pack(write_state(stretch, header[4], answered_now))
  if answered_now[1] then
    count_ids(keys[1], stretch, counted_ids)
  end
  for _, id in ipairs(due) do
    if not dirty_sessions[id] then
      redis.call('ZREM', key('x', ''), id)
    end
  end
  local outcome_blob = pack({ outcomes, moves, notices, meta[3], header[8] })
  redis.call('HSET', keys[1], 'sequence', string.format('%d', sequence), 'mark', header[8])
  redis.call('XADD', key('j', ''), 'MINID', string.format('%d-0', journalled), string.format('%d-0', sequence),
    't', string.format('%d', now), 'r', args[3], 'o', outcome_blob, 'i', images)
  return { sequence, outcome_blob, images }
end

-- Rebuilding ----------------------------------------------------------------------------------------------------

redis.register_function('decide', decide)
do

-- A rebuild writes into a closed cell: `building` says for which epoch, and which step was the last. A step out of its
-- turn changes nothing: the rebuild was overtaken by one for a later epoch, or the server lost what came before.
local function note_step(meta, building)
  redis.call('HSET', meta, 'building', building, 'built', redis.call('TIME')[1])
  return 'OK'
end

local function begin_rebuild(keys, args)
  local meta = redis.call('HMGET', keys[1], 'epoch', 'building')
  if meta[2] == args[1] .. ':0' then
    return 'OK' -- the same again
  end
  local building = string.match(meta[2] or '0', '^%d+')
  if tonumber(meta[1] or 0) >= tonumber(args[1]) or tonumber(building) >= tonumber(args[1]) then
    return 'OVERTAKEN'
  end
  redis.call('HDEL', keys[1], 'epoch', 'sequence', 'mark', 'ids', 'ids_before')
  return note_step(keys[1], args[1] .. ':0')
end

-- Keys, values and how many milliseconds each is kept, empty for ever.
local function load_keys(words)
  for index = 4, #words, 3 do
    if words[index + 2] == '' then
      redis.call('SET', words[index], words[index + 1])
    else
      redis.call('SET', words[index], words[index + 1], 'PX', words[index + 2])
    end
  end
end

-- ARGV: epoch, step, a command and its arguments; LOAD is many SETs.
local function rebuild(keys, args)
  local building = redis.call('HMGET', keys[1], 'building')[1]
  local step = args[1] .. ':' .. args[2]
  if building == step then
    return 'OK' -- the same again
  end
  if building ~= args[1] .. ':' .. string.format('%d', tonumber(args[2]) - 1) then
    return 'OVERTAKEN'
  end
  cell = string.sub(keys[1], 1, -2)
  local stretch = args[3] == 'HSET' and string.match(args[4], 'd:(%d+)$')
  local counted_ids = stretch and redis.call('HMGET', keys[1], 'ids', 'ids_before')
  if stretch and forgot_ids(counted_ids, tonumber(stretch)) then
    return 'OVERTAKEN'
  end
  if args[3] == 'LOAD' then
    load_keys(args)
  else
    redis.call(unpack(args, 3))
  end
  if stretch then
    count_ids(keys[1], tonumber(stretch), counted_ids)
  end
  return note_step(keys[1], step)
end

-- ARGV: epoch, last step, sequence and mark of the journal's last segment.
local function end_rebuild(keys, args)
  local meta = redis.call('HMGET', keys[1], 'epoch', 'building')
  if meta[1] == args[1] then
    return 'OK' -- the same again
  end
  if meta[2] ~= args[1] .. ':' .. args[2] then
    return 'OVERTAKEN'
  end
  redis.call('HDEL', keys[1], 'building', 'built')
  redis.call('HSET', keys[1], 'epoch', args[1], 'sequence', args[3], 'mark', args[4])
  return 'OK'
end

redis.register_function('begin_rebuild', begin_rebuild)
redis.register_function('rebuild', rebuild)
redis.register_function('end_rebuild', end_rebuild)

end
