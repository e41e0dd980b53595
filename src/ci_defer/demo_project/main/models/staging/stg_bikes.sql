with

raw_bikes as (

    select * from {{ ref('raw_bikes') }}

)

select
    bike_id,
    -- The inventory writes 'E-Bike', everybody else 'e-bike'.
    lower(bike_type) as bike_type,
    purchased_on,
    {{ cents_to_euros('purchase_price_cents') }} as purchase_price_eur,
    last_serviced_on
from raw_bikes
