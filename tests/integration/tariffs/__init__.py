"""Published price lists, said in Meterline's terms and charged by the real core."""
