-- A view: the van drivers look at it all day, and it has to be as fresh as the rides are.
{{ config(materialized='view') }}

with

stations as (

    select * from {{ ref('dim_stations') }}

),

departures as (

    select
        start_station_id as station_id,
        count(*) as departure_count
    from {{ ref('fct_rides') }}
    group by start_station_id

),

arrivals as (

    select
        end_station_id as station_id,
        count(*) as arrival_count
    from {{ ref('fct_rides') }}
    group by end_station_id

)

select
    stations.station_id,
    stations.station_name,
    stations.district,
    -- A station nobody used still needs a row, with zeros.
    coalesce(departures.departure_count, 0) as departure_count,
    coalesce(arrivals.arrival_count, 0) as arrival_count,
    coalesce(arrivals.arrival_count, 0) - coalesce(departures.departure_count, 0) as net_bikes
from stations
left join departures
    on stations.station_id = departures.station_id
left join arrivals
    on stations.station_id = arrivals.station_id
