"""Methods as DomainBed Algorithms, and the table that lists them."""
