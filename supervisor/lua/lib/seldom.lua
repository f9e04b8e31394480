-- seldom: what few calls need, made when one does. Needs lib/view, lib/codes and lib/completed.
--
-- Lua makes the functions of a script anew in every call. With all of these, a call that found nothing to do spent
-- a third of its time on that.

local function make_seldom()
--- include lib/queue
--- include lib/promote
--- include lib/parent
--- include lib/retention
--- include lib/store
--- include lib/place
--- include lib/deduplication
--- include lib/stacktrace
--- include lib/metrics
--- include lib/dead_letter
--- include lib/verdict
--- include lib/ends
--- include lib/moves
--- include lib/reading
--- include lib/limiter
--- include lib/record
--- include lib/again
  return {
    text_of = text_of, refused_to_all = refused_to_all, wake = wake, mark_delay = mark_delay,
    wrong_waiting_types = wrong_waiting_types, promote_due = promote_due,
    READ = READ, MOVES = MOVES, wrong_move_types = wrong_move_types, keep_verdict = keep_verdict,
    kept_by_children = kept_by_children, find_parent = find_parent, tell_others = tell_others,
    keep_or_delete = keep_or_delete, finish = finish,
    undo = undo, give_up_run = give_up_run, seen_instead = seen_instead, find_taken = find_taken,
    set_limit = set_limit, limited_for = limited_for, count_start = count_start,
  }
end

local seldom_made

local function seldom()
  seldom_made = seldom_made or make_seldom()
  return seldom_made
end
