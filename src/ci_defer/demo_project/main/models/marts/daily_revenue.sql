with

rides as (

    select * from {{ ref('fct_rides') }}

),

revenue_per_day as (

    select
        revenue_date,
        count(*) as ride_count,
        sum(ride_minutes) as ride_minutes,
        sum(price_eur) as revenue_eur
    from rides
    group by revenue_date

)

select
    revenue_date,
    ride_count,
    ride_minutes,
    revenue_eur,
    cast(revenue_eur / ride_count as decimal(10, 2)) as revenue_per_ride_eur
from revenue_per_day
