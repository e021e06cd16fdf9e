local own = read_own()
return own.is_there and packed_account(own)
