with

raw_stations as (

    select * from {{ ref('raw_stations') }}

)

select
    station_id,
    station_name,
    district,
    dock_count,
    opened_on
from raw_stations
