"""Child processes: started, asked, stopped."""
