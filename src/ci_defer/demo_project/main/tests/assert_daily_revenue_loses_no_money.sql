-- Grouping must neither lose a ride nor count one twice: both sides add up to the same euros.
with

revenue_by_day as (

    select coalesce(sum(revenue_eur), 0) as revenue_eur
    from {{ ref('daily_revenue') }}

),

revenue_by_ride as (

    select coalesce(sum(price_eur), 0) as revenue_eur
    from {{ ref('fct_rides') }}

)

select
    revenue_by_day.revenue_eur as revenue_by_day_eur,
    revenue_by_ride.revenue_eur as revenue_by_ride_eur
from revenue_by_day
cross join revenue_by_ride
where revenue_by_day.revenue_eur <> revenue_by_ride.revenue_eur
