-- Access reviews: officers read all reviews and their entries, and start and decide them only through functions. The
-- worker removes the access that an approved review removes.

select private.reset_access('resguardo.access_reviews');
alter table resguardo.access_reviews enable row level security;
select private.reset_access('resguardo.access_review_entries');
alter table resguardo.access_review_entries enable row level security;

grant select on resguardo.access_reviews, resguardo.access_review_entries to compliance;

create policy access_reviews_select_compliance on resguardo.access_reviews for select to compliance
using ((select private.person()) is not null);

create policy access_review_entries_select_compliance on resguardo.access_review_entries for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.start_access_review(integer, integer),
private.decide_access(uuid, uuid, text),
private.settle_access_review(uuid, boolean, integer)
to compliance;

grant execute on function
private.apply_access_review(uuid),
private.watch_access_reviews()
to resguardo_worker;
